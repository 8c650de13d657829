"""``redis.disable_persistence``: Disable Redis persistence until it is restored: the last option when the disk is
full.

A restart while persistence is disabled loses all data written in that time. The action is therefore destructive
and requires the approval of a person.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Literal

from pydantic import Field

from remediator.core.cost import Cost
from remediator.core.outcome import Outcome
from remediator.core.plan import PlannedCall
from remediator.errors import TargetError
from remediator.extensions import bindings, costs
from remediator.extensions.actions.base import Action, EffectStatus, Observation, Result, UndoCall
from remediator.extensions.parameters import Parameters
from remediator.playbooks.facts import Fact
from remediator.playbooks.inventory import Service


class DisableParameters(Parameters):
    """Parameters of ``redis.disable_persistence``."""

    what: Literal["aof", "snapshots", "both"] = Field(
        default="both", description="Persistence to disable: the append-only file (aof), automatic snapshots or both."
    )


class RedisDisablePersistence(Action):
    """Disable Redis persistence. A restart of Redis then loses all later writes."""

    name = "redis.disable_persistence"
    needs = ("redis",)
    Parameters = DisableParameters
    idempotent = True
    reversible = True
    destructive = True
    measures = costs.REDIS_FIELDS
    timeout = timedelta(seconds=10)
    facts = (
        Fact("old", "object", "Parameters with their values before the action."),
        Fact("new", "object", "Parameters with their values after the action."),
    )

    async def plan(self, service: Service, parameters: DisableParameters) -> PlannedCall:
        redis = bindings.redis(service)
        old = {name: await redis.config_get(name) for name in ("appendonly", "save")}
        new = wanted(parameters.what)
        if all(old[name] == value for name, value in new.items()):
            raise TargetError(f"{service.name}: persistence ({parameters.what}) is already disabled")
        sets = ", ".join(f"CONFIG SET {name} {value!r}" for name, value in new.items())
        return PlannedCall(
            text=f"on {service.name}: {sets} (now appendonly {old['appendonly']}, save {old['save']!r})",
            arguments={"old": {name: old[name] for name in new}, "new": new},
            pin={"run_id": await redis.run_id()},
            undo="restore the previous settings; Redis then rewrites its append-only file",
            risk="If Redis stops before persistence is restored, all writes since then are lost.",
        )

    async def cost(self, service: Service, parameters: DisableParameters, call: PlannedCall) -> Cost:
        return await costs.redis_data(self.clients, service)

    async def execute(self, service: Service, parameters: DisableParameters, call: PlannedCall) -> Result:
        redis = bindings.redis(service)
        changes = [
            await redis.config_set(name, value, expected=str(call.pin["run_id"]))
            for name, value in call.arguments["new"].items()
        ]
        if all(change.old == change.new for change in changes):
            return Result(Outcome.FAILED, f"nothing was changed: persistence ({parameters.what}) was already disabled")
        return Result(Outcome.OK, f"{service.name}: persistence ({parameters.what}) is disabled", dict(call.arguments))

    def undo_call(self, call: PlannedCall, output: Mapping[str, Any]) -> UndoCall:
        return UndoCall("redis.restore_persistence", dict(call.arguments["old"]))

    async def observe(
        self, service: Service, parameters: DisableParameters, call: PlannedCall, since: datetime
    ) -> Observation:
        """Compare the Redis configuration with the planned values."""
        redis = bindings.redis(service)
        now = {name: await redis.config_get(name) for name in call.arguments["new"]}
        happened = EffectStatus.YES if now == call.arguments["new"] else EffectStatus.NO
        return Observation(happened, f"current values: {now}", now)


def wanted(what: str) -> dict[str, str]:
    """Return the parameters that disable persistence."""
    both = {"appendonly": "no", "save": ""}
    kept = {"aof": "appendonly", "snapshots": "save"}.get(what)
    return both if kept is None else {kept: both[kept]}
