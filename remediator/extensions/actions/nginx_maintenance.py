"""``nginx.maintenance``: Let nginx answer 503 with Retry-After for a time, while the app cannot answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from remediator.clients.host.nginx import MARK, OFF
from remediator.core.cost import Cost
from remediator.core.plan import PlannedCall
from remediator.errors import TargetError
from remediator.extensions import bindings, costs
from remediator.extensions.actions._nginx_rule import NginxRule
from remediator.extensions.actions.base import UndoCall
from remediator.extensions.parameters import Parameters
from remediator.playbooks.facts import Fact
from remediator.playbooks.inventory import Service


class MaintenanceParameters(Parameters):
    """Parameters of ``nginx.maintenance``."""

    on: bool = Field(default=True, description="Whether to start or end maintenance mode.")
    retry_after: int = Field(default=60, ge=1, le=86_400, description="Seconds after which clients should retry.")


class NginxMaintenance(NginxRule):
    """Start or end the maintenance mode of nginx."""

    name = "nginx.maintenance"
    Parameters = MaintenanceParameters
    interrupts = True
    measures = ("in_flight_requests",)
    what = "rule"
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

    def undo_call(self, call: PlannedCall, output: Mapping[str, Any]) -> UndoCall:
        return UndoCall(self.name, {"on": call.arguments["before"] != OFF})


def content(retry_after: int) -> str:
    """Return the content of the included file in maintenance mode."""
    return f"{MARK}add_header Retry-After {retry_after} always;\nreturn 503;\n"
