"""``alertmanager.expire_silences``: Expire the silences that ``alertmanager.silence`` created, found by their mark."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import partial

from pydantic import Field

from remediator.clients.alertmanager.client import Alertmanager, first_reachable, marked
from remediator.core.outcome import Outcome
from remediator.core.plan import PlannedCall
from remediator.extensions.actions.base import Action, EffectStatus, Observation, Result
from remediator.extensions.parameters import Parameters
from remediator.playbooks.facts import Fact
from remediator.playbooks.inventory import Service


class ExpireParameters(Parameters):
    """Parameters of ``alertmanager.expire_silences``."""

    mark: str = Field(pattern=r"^remediator run .{1,300}$", description="Full comment of the silences to expire.")


class AlertmanagerExpireSilences(Action):
    """Expire the silences that this run created."""

    name = "alertmanager.expire_silences"
    Parameters = ExpireParameters
    idempotent = True
    timeout = timedelta(seconds=15)
    facts = (Fact("ended", "integer", "Number of expired silences."),)

    async def plan(self, service: Service, parameters: ExpireParameters) -> PlannedCall:
        ids = await marked(self.clients.alertmanagers, parameters.mark)
        return PlannedCall(
            text=f"expire {len(ids)} silences with the comment {parameters.mark!r}", arguments={"silences": ids}
        )

    async def execute(self, service: Service, parameters: ExpireParameters, call: PlannedCall) -> Result:
        ended = 0
        for silence in await marked(self.clients.alertmanagers, parameters.mark):
            await first_reachable(self.clients.alertmanagers, partial(Alertmanager.expire_silence, silence_id=silence))
            ended += 1
        return Result(Outcome.OK, f"{ended} silences expired", {"ended": ended})

    async def observe(
        self, service: Service, parameters: ExpireParameters, call: PlannedCall, since: datetime
    ) -> Observation:
        """Search for silences with the comment."""
        left = await marked(self.clients.alertmanagers, parameters.mark)
        return Observation(
            EffectStatus.NO if left else EffectStatus.YES, f"{len(left)} silences are active", {"silences": left}
        )
