"""``nginx.maintenance``: Let nginx answer 503 with Retry-After for a time, instead of an app that cannot answer."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from pydantic import Field

from remediator.clients.host.nginx import MARK, OFF
from remediator.clients.host.process import Process
from remediator.core.outcome import Outcome
from remediator.core.plan import PlannedCall
from remediator.errors import TargetError
from remediator.extensions import bindings
from remediator.extensions.actions.base import Action, EffectStatus, Observation, Result, UndoCall
from remediator.extensions.clientset import ClientSet
from remediator.extensions.parameters import Parameters
from remediator.playbooks.inventory import Service


class MaintenanceParameters(Parameters):
    """On or off."""

    on: bool = Field(default=True, description="Whether to start or end maintenance mode.")
    retry_after: int = Field(default=60, ge=1, le=86_400, description="Seconds after which clients should retry.")


class NginxMaintenance(Action):
    """Begin or end nginx' maintenance mode."""

    name = "nginx.maintenance"
    Parameters = MaintenanceParameters
    idempotent = True
    reversible = True
    timeout = timedelta(seconds=30)

    def __init__(self, world: ClientSet) -> None:
        """It works on files and processes of this host."""

    async def plan(self, service: Service, parameters: MaintenanceParameters) -> PlannedCall:
        _, file = bindings.nginx(service)
        before, master = file.content(), file.master()
        if before not in (OFF, content(parameters.retry_after)) and "\nreturn " not in before:
            raise TargetError("nginx has another temporary rule in force; end that first")
        wanted = content(parameters.retry_after) if parameters.on else OFF
        verb = "begin" if parameters.on else "end"
        return PlannedCall(
            text=f"nginx (pid {master.pid}): {verb} maintenance mode; test the configuration, then reload",
            arguments={"content": wanted, "before": before},
            pin={"pid": master.pid, "ticks": master.ticks},
            undo="end it" if parameters.on else "begin it again",
            risk="Every request gets 503 from nginx itself." if parameters.on else None,
        )

    async def execute(self, service: Service, parameters: MaintenanceParameters, call: PlannedCall) -> Result:
        _, file = bindings.nginx(service)
        master = Process(int(call.pin["pid"]), int(call.pin["ticks"]))
        wanted, before = str(call.arguments["content"]), str(call.arguments["before"])
        workers = await file.apply(wanted, expected=before, master=master)
        return Result(Outcome.OK, f"nginx has {workers} new workers with it", {"on": parameters.on})

    def back(self, call: PlannedCall, output: Mapping[str, Any]) -> UndoCall:
        return UndoCall(self.name, {"on": call.arguments["before"] != OFF})

    async def observe(
        self, service: Service, parameters: MaintenanceParameters, call: PlannedCall, since: datetime
    ) -> Observation:
        """The file says it, and a worker was started since to read it; else it can be done again without harm."""
        _, file = bindings.nginx(service)
        written = file.content() == call.arguments["content"]
        if written and file.in_use(since.timestamp()):
            return Observation(EffectStatus.YES, "nginx uses the planned rule", {"written": True})
        return Observation(EffectStatus.NO, "nginx does not use the planned rule yet", {"written": written})


def content(retry_after: int) -> str:
    """What the included file says in maintenance mode."""
    return f"{MARK}add_header Retry-After {retry_after} always;\nreturn 503;\n"
