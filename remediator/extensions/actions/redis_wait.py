"""``redis.wait``: Wait until Redis serves, while Redis is in a temporary state such as loading."""

from __future__ import annotations

from datetime import timedelta

from pydantic import Field

from remediator.clients.redis.connection import RedisState
from remediator.core.outcome import Outcome
from remediator.core.plan import PlannedCall
from remediator.core.types import Duration
from remediator.extensions import bindings
from remediator.extensions.actions.base import Action, Poll, Result
from remediator.extensions.parameters import Parameters
from remediator.playbooks.facts import Fact
from remediator.playbooks.inventory import Service

_LOOK = timedelta(seconds=2)


class WaitParameters(Parameters):
    """Parameters of ``redis.wait``."""

    states: tuple[RedisState, ...] = Field(
        default=(RedisState.LOADING, RedisState.FAILOVER),
        min_length=1,
        description="States to wait in. Any other state than these and serving ends the wait as failed.",
    )
    within: Duration = Field(default=timedelta(minutes=10), description="Time after which the wait fails.")


class RedisWait(Action):
    """Wait until Redis serves, up to a deadline, and record the progress. Read-only."""

    name = "redis.wait"
    needs = ("redis",)
    Parameters = WaitParameters
    mutates = False
    idempotent = True
    timeout = timedelta(seconds=30)
    facts = (
        Fact("state", "string", "State at the last look.", values=tuple(RedisState)),
        Fact("loaded_percent", "number", "Loaded part of the data set; null unless it loads.", unit="%"),
    )

    async def plan(self, service: Service, parameters: WaitParameters) -> PlannedCall:
        states = ", ".join(parameters.states)
        return PlannedCall(
            text=f"wait at most {parameters.within.total_seconds():g} s while {service.name} is in a state of: {states}"
        )

    async def execute(self, service: Service, parameters: WaitParameters, call: PlannedCall) -> Result:
        health = await bindings.redis(service).health()
        facts = {"state": health.state.value, "loaded_percent": health.loaded_percent}
        if health.ok:
            return Result(Outcome.OK, f"{health.address} serves", facts)
        summary = f"{service.name}: {health.state.value} ({health.detail})"
        waits = Poll(_LOOK, parameters.within) if health.state in parameters.states else None
        return Result(Outcome.FAILED, summary, facts, waits)
