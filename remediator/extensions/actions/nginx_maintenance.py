"""``nginx.maintenance``: Let nginx answer 503 with Retry-After for a time, instead of an app that cannot answer."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from pydantic import Field

from remediator.clients.host.nginx import MARK, OFF
from remediator.clients.host.process import Process
from remediator.core.cost import Cost
from remediator.core.outcome import Outcome
from remediator.core.plan import PlannedCall
from remediator.errors import TargetError
from remediator.extensions import bindings, costs
from remediator.extensions.actions.base import Action, EffectStatus, Observation, Result, UndoCall
from remediator.extensions.parameters import Parameters
from remediator.playbooks.facts import Fact
from remediator.playbooks.inventory import Service


class MaintenanceParameters(Parameters):
    """Parameters of ``nginx.maintenance``."""

    on: bool = Field(default=True, description="Whether to start or end maintenance mode.")
    retry_after: int = Field(default=60, ge=1, le=86_400, description="Seconds after which clients should retry.")


class NginxMaintenance(Action):
    """Start or end the maintenance mode of nginx."""

    name = "nginx.maintenance"
    needs = ("nginx",)
    Parameters = MaintenanceParameters
    interrupts = True
    measures = ("in_flight_requests",)
    idempotent = True
    reversible = True
    timeout = timedelta(seconds=30)
    facts = (Fact("on", "boolean", "Whether maintenance mode is on."),)

    async def plan(self, service: Service, parameters: MaintenanceParameters) -> PlannedCall:
        _, file = bindings.nginx(service)
        before, master = file.content(), file.master()
        if before not in (OFF, content(parameters.retry_after)) and "\nreturn " not in before:
            raise TargetError("another temporary rule is active in nginx; end it first")
        wanted = content(parameters.retry_after) if parameters.on else OFF
        if parameters.on and wanted == before:
            raise TargetError("nginx is in maintenance mode already")
        verb = "begin" if parameters.on else "end"
        return PlannedCall(
            text=f"nginx (pid {master.pid}): {verb} maintenance mode; test the configuration, then reload",
            arguments={"content": wanted, "before": before},
            pin={"pid": master.pid, "ticks": master.ticks},
            undo="end maintenance mode" if parameters.on else "start maintenance mode again",
            risk="nginx answers every request with status 503." if parameters.on else None,
        )

    async def cost(self, service: Service, parameters: MaintenanceParameters, call: PlannedCall) -> Cost:
        return await costs.in_flight(self.clients, service) if parameters.on else Cost()

    async def execute(self, service: Service, parameters: MaintenanceParameters, call: PlannedCall) -> Result:
        _, file = bindings.nginx(service)
        master = Process(int(call.pin["pid"]), int(call.pin["ticks"]))
        wanted, before = str(call.arguments["content"]), str(call.arguments["before"])
        workers = await file.apply(wanted, expected=before, master=master)
        return Result(Outcome.OK, f"nginx reloaded with {workers} new workers", {"on": parameters.on})

    def undo_call(self, call: PlannedCall, output: Mapping[str, Any]) -> UndoCall:
        return UndoCall(self.name, {"on": call.arguments["before"] != OFF})

    async def observe(
        self, service: Service, parameters: MaintenanceParameters, call: PlannedCall, since: datetime
    ) -> Observation:
        """Read the file and the start times of the workers. Otherwise the action can be repeated safely."""
        _, file = bindings.nginx(service)
        written = file.content() == call.arguments["content"]
        if written and file.in_use(since.timestamp()):
            return Observation(EffectStatus.YES, "nginx uses the planned rule", {"written": True})
        return Observation(EffectStatus.NO, "nginx does not use the planned rule yet", {"written": written})


def content(retry_after: int) -> str:
    """Return the content of the included file in maintenance mode."""
    return f"{MARK}add_header Retry-After {retry_after} always;\nreturn 503;\n"
