"""The common parts of the actions of nginx: the reload with a planned rule, and its observation."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, ClassVar

from remediator.clients.host.process import Process
from remediator.core.outcome import Outcome
from remediator.core.plan import PlannedCall
from remediator.extensions import bindings
from remediator.extensions.actions.base import Action, EffectStatus, Observation, Result
from remediator.playbooks.inventory import Service


class NginxRule(Action):
    """Replace the temporary rule of nginx. The facts of the result are parameters of the call."""

    needs = ("nginx",)
    idempotent = True
    reversible = True
    timeout = timedelta(seconds=30)
    what: ClassVar[str]
    """Noun of the rule."""

    async def execute(self, service: Service, parameters: Any, call: PlannedCall) -> Result:
        _, file = bindings.nginx(service)
        master = Process(int(call.pin["pid"]), int(call.pin["ticks"]))
        wanted, before = str(call.arguments["content"]), str(call.arguments["before"])
        workers = await file.apply(wanted, expected=before, master=master)
        output = {fact.name: getattr(parameters, fact.name) for fact in self.facts}
        return Result(Outcome.OK, f"nginx reloaded with {workers} new workers", output)

    async def observe(self, service: Service, parameters: Any, call: PlannedCall, since: datetime) -> Observation:
        """Read the file and the start times of the workers. Otherwise the action can be repeated safely."""
        _, file = bindings.nginx(service)
        written = file.content() == call.arguments["content"]
        if written and file.in_use(since.timestamp()):
            return Observation(EffectStatus.YES, f"nginx uses the planned {self.what}", {"written": True})
        return Observation(EffectStatus.NO, f"nginx does not use the planned {self.what} yet", {"written": written})
