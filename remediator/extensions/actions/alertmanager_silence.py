"""``alertmanager.silence``: Silence alerts of services that cannot work while their dependency is repaired.

The silence names the run in its comment and has an end time. Undoing the step expires it earlier.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from pydantic import Field

from remediator.clients.alertmanager.client import Alertmanager, Matcher, NewSilence, first_reachable, marked
from remediator.core.alert import ALERTMANAGER
from remediator.core.clock import format_duration, rfc3339
from remediator.core.outcome import Outcome
from remediator.core.plan import PlannedCall
from remediator.core.types import Duration
from remediator.errors import TargetError
from remediator.extensions.actions.base import ALERT_SOURCES, RUN, Action, EffectStatus, Observation, Result, UndoCall
from remediator.extensions.parameters import Parameters
from remediator.playbooks.facts import Fact
from remediator.playbooks.inventory import Service

_LONGEST = timedelta(hours=4)


class SilenceParameters(Parameters):
    """Parameters of ``alertmanager.silence``."""

    services: tuple[str, ...] = Field(
        default=(), description="Services of the inventory; default: all that depend on the target."
    )
    duration: Duration = Field(default=timedelta(minutes=15), description="Duration of the silence, at most 4 hours.")


class AlertmanagerSilence(Action):
    """Silence the alerts of services that depend on the target."""

    name = "alertmanager.silence"
    Parameters = SilenceParameters
    reversible = True
    timeout = timedelta(seconds=15)
    facts = (Fact("silences", "list", "IDs of the created silences."),)

    async def plan(self, service: Service, parameters: SilenceParameters) -> PlannedCall:
        if not self.clients.alertmanagers:
            raise TargetError("no Alertmanager is configured; add one to 'alertmanagers' in the settings")
        if ALERTMANAGER not in ALERT_SOURCES.get():
            sources = ", ".join(sorted(ALERT_SOURCES.get()))
            raise TargetError(
                f"the alerts of this run are from {sources}; a silence in Alertmanager has no effect on them"
            )
        names = parameters.services or self.clients.inventory().dependents(service.name)
        if not names:
            raise TargetError(
                f"no service in the inventory depends on {service.name!r}; name the services in 'services'"
            )
        labels = [dict(self.clients.inventory().service(name).alert_labels) for name in names]
        length = min(parameters.duration, _LONGEST)
        mark = f"remediator run {RUN.get() or '?'} repairs {service.name}, {rfc3339(self.clients.clock.now())}"
        return PlannedCall(
            text=f"silence the alerts of {', '.join(names)} for {format_duration(length)}",
            arguments={"labels": labels, "seconds": length.total_seconds(), "mark": mark},
            volatile_fields=("mark",),
            undo="expire the silences",
            risk=f"Alerts of {', '.join(names)} with another cause are silenced too.",
        )

    async def execute(self, service: Service, parameters: SilenceParameters, call: PlannedCall) -> Result:
        now = self.clients.clock.now()
        until = now + timedelta(seconds=float(call.arguments["seconds"]))
        ids = []
        for labels in call.arguments["labels"]:
            matchers = tuple(Matcher(name=name, value=value) for name, value in labels.items())
            silence = NewSilence(
                matchers=matchers,
                starts_at=now,
                ends_at=until,
                created_by="remediator",
                comment=str(call.arguments["mark"]),
            )
            post = partial(Alertmanager.post_silence, silence=silence)
            ids.append(await first_reachable(self.clients.alertmanagers, post))
        return Result(Outcome.OK, f"{len(ids)} silences until {rfc3339(until)[:19]}Z", {"silences": ids})

    def undo_call(self, call: PlannedCall, output: Mapping[str, Any]) -> UndoCall:
        return UndoCall("alertmanager.expire_silences", {"mark": call.arguments["mark"]})

    async def observe(
        self, service: Service, parameters: SilenceParameters, call: PlannedCall, since: datetime
    ) -> Observation:
        """Search for silences with the comment."""
        found = await marked(self.clients.alertmanagers, str(call.arguments["mark"]))
        if len(found) >= len(call.arguments["labels"]):
            return Observation(EffectStatus.YES, f"{len(found)} silences are active", {"silences": found})
        if found:
            return Observation(
                EffectStatus.UNKNOWN,
                f"only {len(found)} of {len(call.arguments['labels'])} silences are active",
                {"silences": found},
            )
        return Observation(EffectStatus.NO, "no silence with this comment is active")
