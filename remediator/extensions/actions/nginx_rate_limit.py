"""``nginx.rate_limit``: Limit the request rate of each client address in nginx, through its included file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

from pydantic import Field

from remediator.clients.host.nginx import MARK, OFF
from remediator.core.plan import PlannedCall
from remediator.errors import TargetError
from remediator.extensions import bindings
from remediator.extensions.actions._nginx_rule import NginxRule
from remediator.extensions.actions.base import UndoCall
from remediator.extensions.parameters import Parameters
from remediator.playbooks.facts import Fact
from remediator.playbooks.inventory import Service

_BURST = {"gentle": 100, "normal": 20, "strict": 5}
Level = Literal["off", "gentle", "normal", "strict"]


class RateLimitParameters(Parameters):
    """Parameters of ``nginx.rate_limit``. The nginx configuration defines the rate of the zone."""

    level: Level = Field(
        default="normal",
        description="Requests in a burst above the zone rate: gentle (100), normal (20), strict (5); or off.",
    )


class NginxRateLimit(NginxRule):
    """Limit the request rate of each client address, or end the limit."""

    name = "nginx.rate_limit"
    Parameters = RateLimitParameters
    what = "limit"
    facts = (Fact("level", "string", "Active level.", values=get_args(Level)),)

    async def plan(self, service: Service, parameters: RateLimitParameters) -> PlannedCall:
        nginx, file = bindings.nginx(service)
        zone = nginx.zone
        before, master = file.content(), file.master()
        if "\nreturn " in before:
            raise TargetError("nginx is in maintenance mode, which a rate limit would end; end it first")
        wanted = content(parameters.level, zone)
        if parameters.level != "off" and wanted == before:
            raise TargetError(f"nginx has this rate limit already: zone {zone}, {parameters.level}")
        what = "no temporary limit" if parameters.level == "off" else f"zone {zone}, {parameters.level}"
        return PlannedCall(
            text=f"nginx (pid {master.pid}): rate limit per address: {what}; test the configuration, then reload",
            arguments={"content": wanted, "before": before},
            pin={"pid": master.pid, "ticks": master.ticks},
            undo="restore the previous rule",
            risk=None
            if parameters.level == "off"
            else "Clients above the limit get status 429, including legitimate ones.",
        )

    def undo_call(self, call: PlannedCall, output: Mapping[str, Any]) -> UndoCall:
        return UndoCall(self.name, {"level": level_of(str(call.arguments["before"]))})


def content(level: str, zone: str) -> str:
    """Return the content of the included file for a level."""
    return OFF if level == "off" else f"{MARK}limit_req zone={zone} burst={_BURST[level]} nodelay;\n"


def level_of(text: str) -> str:
    """Return the level of a file content; off for any other content."""
    return next((level for level, burst in _BURST.items() if f" burst={burst} " in text), "off")
