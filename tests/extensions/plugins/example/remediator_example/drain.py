"""``example.drain``: Create a marker file that drains a service from its pool."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from pydantic import Field

from remediator.plugin_api import (
    Action,
    EffectStatus,
    Observation,
    Outcome,
    Parameters,
    PlannedCall,
    Result,
    Service,
    TargetError,
)


class DrainParameters(Parameters):
    """Parameters of ``example.drain``."""

    folder: Path = Field(description="Folder of the marker files.")


class Drain(Action):
    """Drain a service from its pool."""

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
            raise TargetError(f"{parameters.folder} was replaced after planning; nothing was changed")
        Path(call.arguments["marker"]).touch()
        return Result(Outcome.OK, f"{service.name} is drained from its pool")

    async def observe(
        self, service: Service, parameters: DrainParameters, call: PlannedCall, since: datetime
    ) -> Observation:
        if Path(call.arguments["marker"]).exists():
            return Observation(EffectStatus.YES, "the marker file exists")
        return Observation(EffectStatus.NO, "the marker file does not exist")


def _identity(folder: Path) -> int:
    try:
        return folder.stat().st_ino
    except OSError as error:
        raise TargetError(f"{folder}: {error.strerror}") from None
