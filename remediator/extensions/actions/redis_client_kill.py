"""``redis.client_kill``: Close Redis connections of clients that use too much memory or are idle."""

from __future__ import annotations

from datetime import datetime, timedelta

from pydantic import Field, model_validator

from remediator.clients.redis.models import Client
from remediator.core.cost import Cost
from remediator.core.outcome import Outcome
from remediator.core.plan import PlannedCall
from remediator.core.types import Duration
from remediator.errors import TargetError
from remediator.extensions import bindings
from remediator.extensions.actions.base import Action, EffectStatus, Observation, Result
from remediator.extensions.parameters import Parameters
from remediator.playbooks.facts import Fact
from remediator.playbooks.inventory import Service


class ClientKillParameters(Parameters):
    """Parameters of ``redis.client_kill``. A client must meet all conditions; replicas and monitors never match."""

    memory_over: int | None = Field(
        default=None, ge=1024, description="Close connections that use more memory than this, in bytes."
    )
    idle_over: Duration | None = Field(
        default=None, description="Close connections that were idle for longer than this."
    )
    limit: int = Field(
        default=10, ge=1, le=1000, description="Maximum number to close, the clients with the most memory first."
    )

    @model_validator(mode="after")
    def _something(self) -> ClientKillParameters:
        if self.memory_over is None and self.idle_over is None:
            raise ValueError("set memory_over or idle_over; without a condition, every client would match")
        return self

    def matches(self, client: Client) -> bool:
        """Return whether a client meets the conditions."""
        if client.command in ("sync", "psync", "monitor", "replconf"):
            return False
        heavy = self.memory_over is None or client.memory > self.memory_over
        return heavy and (self.idle_over is None or client.idle > self.idle_over)


class RedisClientKill(Action):
    """Close connections to Redis by their IDs. Redis never reuses an ID."""

    name = "redis.client_kill"
    needs = ("redis",)
    Parameters = ClientKillParameters
    interrupts = True
    measures = ("clients",)
    idempotent = True
    timeout = timedelta(seconds=30)
    facts = (Fact("killed", "integer", "Number of closed connections."),)

    async def plan(self, service: Service, parameters: ClientKillParameters) -> PlannedCall:
        redis = bindings.redis(service)
        run_id, clients = await redis.run_id(), await redis.clients()
        matching = [client for client in clients if parameters.matches(client)]
        chosen = sorted(matching, key=lambda client: (-client.memory, client.id))[: parameters.limit]
        if not chosen:
            raise TargetError(f"none of the {len(clients)} clients of {service.name} meets the conditions")
        names = ", ".join(f"{client.id} ({client.address})" for client in chosen[:10])
        return PlannedCall(
            text=f"CLIENT KILL on {service.name} for {len(chosen)} of {len(clients)} connections: {names}",
            arguments={"ids": [client.id for client in chosen]},
            pin={"run_id": run_id},
            risk="Pending requests of these clients fail. The clients can connect again at once.",
        )

    async def cost(self, service: Service, parameters: ClientKillParameters, call: PlannedCall) -> Cost:
        return Cost(clients=len(call.arguments["ids"]))

    async def execute(self, service: Service, parameters: ClientKillParameters, call: PlannedCall) -> Result:
        redis, killed = bindings.redis(service), 0
        for client in call.arguments["ids"]:
            killed += await redis.kill_client(int(client), expected=str(call.pin["run_id"]))
        text = f"{killed} connections closed; {len(call.arguments['ids']) - killed} had already ended"
        return Result(Outcome.OK if killed else Outcome.FAILED, text, {"killed": killed})

    async def observe(
        self, service: Service, parameters: ClientKillParameters, call: PlannedCall, since: datetime
    ) -> Observation:
        """Search for the planned connections."""
        there = {client.id for client in await bindings.redis(service).clients()} & set(call.arguments["ids"])
        happened = EffectStatus.NO if there else EffectStatus.YES
        return Observation(happened, f"{len(there)} of the planned connections are still open", {"open": sorted(there)})
