"""``service.logs``: the last lines that a service wrote, with the lines that matter picked out."""

from __future__ import annotations

import re
from datetime import timedelta

from pydantic import Field

from remediator.actions import Action, Outcome, Parameters, Result
from remediator.inventory import Service
from remediator.plan import PlannedCall
from remediator.world import World

_TELLING = re.compile(
    r"error|fail|fatal|panic|traceback|exception|denied|refused|full|out of memory|oom|corrupt|bad file|can't|cannot",
    re.IGNORECASE,
)
_KEPT = 4000


class LogsParameters(Parameters):
    """How much to read."""

    lines: int = Field(default=100, ge=1, le=2000, description="Last lines of each stream.")
    previous: bool = Field(
        default=False, description="Of the incarnation before this one, where the platform keeps it."
    )


class ServiceLogs(Action):
    """Read a service's logs. Reads only."""

    name = "service.logs"
    Parameters = LogsParameters
    mutates = False
    idempotent = True
    timeout = timedelta(seconds=10)

    def __init__(self, world: World) -> None:
        self._platforms = world.platforms

    async def plan(self, service: Service, parameters: LogsParameters) -> PlannedCall:
        return PlannedCall(text=f"read the last {parameters.lines} log lines of {service.name}")

    async def execute(self, service: Service, parameters: LogsParameters, call: PlannedCall) -> Result:
        platform = self._platforms[service.platform.kind]
        text = await platform.logs(service, parameters.lines, previous=parameters.previous)
        lines = text.splitlines()
        telling = [line for line in lines if _TELLING.search(line)]
        summary = telling[-1][:300] if telling else f"{len(lines)} lines, none of them an error"
        return Result(Outcome.OK, summary, {"telling": telling[-20:], "tail": text[-_KEPT:]})
