"""``example.drain``: Create a marker file that drains a service from its pool."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from pydantic import Field

from remediator.core.outcome import Outcome
from remediator.core.plan import PlannedCall
from remediator.errors import TargetError
from remediator.extensions.actions.base import (
    Action,
    EffectStatus,
    Observation,
    Parameters,
    Result,
)
from remediator.playbooks.inventory import Service


class DrainParameters(Parameters):
    """Where the load balancer looks."""

    folder: Path = Field(description="The folder of markers.")


class Drain(Action):
    """Take a service out of its pool."""

    name = "example.drain"
    Parameters = DrainParameters
    idempotent = True

    async def plan(self, service: Service, parameters: DrainParameters) -> PlannedCall:
        marker = parameters.folder / service.name
        return PlannedCall(
            text=f"create {marker}", arguments={"marker": str(marker)}, pin={"folder": _identity(parameters.folder)}
        )

    async def execute(self, service: Service, parameters: DrainParameters, call: PlannedCall) -> Result:
        if _identity(parameters.folder) != call.pin["folder"]:
            raise TargetError(f"{parameters.folder} is another folder than the one that was planned for")
        Path(call.arguments["marker"]).touch()
        return Result(Outcome.OK, f"{service.name} is out of its pool")

    async def observe(
        self, service: Service, parameters: DrainParameters, call: PlannedCall, since: datetime
    ) -> Observation:
        if Path(call.arguments["marker"]).exists():
            return Observation(EffectStatus.YES, "its marker is there")
        return Observation(EffectStatus.NO, "it has no marker")


def _identity(folder: Path) -> int:
    try:
        return folder.stat().st_ino
    except OSError as error:
        raise TargetError(f"{folder}: {error.strerror}") from None
