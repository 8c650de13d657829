"""``redis.client_kill``: Close Redis connections of clients that use too much memory or are idle."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from pydantic import Field, model_validator

from remediator.clients.redis.models import Client
from remediator.core.outcome import Outcome
from remediator.core.plan import PlannedCall
from remediator.core.types import Duration
from remediator.errors import TargetError
from remediator.extensions import bindings
from remediator.extensions.actions.base import Action, EffectStatus, Observation, Result
from remediator.extensions.clientset import ClientSet
from remediator.extensions.parameters import Parameters
from remediator.playbooks.inventory import Service


class ClientKillParameters(Parameters):
    """Who is meant: everything that is given must hold. Replicas and monitors are never meant."""

    memory_over: int | None = Field(
        default=None, ge=1024, description="Close connections that use more memory than this, in bytes."
    )
    idle_over: Duration | None = Field(
        default=None, description="Close connections that were idle for longer than this."
    )
    limit: int = Field(
        default=10, ge=1, le=1000, description="Maximum number to close; those with the most memory first."
    )

    @model_validator(mode="after")
    def _something(self) -> ClientKillParameters:
        if self.memory_over is None and self.idle_over is None:
            raise ValueError("give memory_over or idle_over: nothing would mean every client")
        return self

    def means(self, client: Client) -> bool:
        """Whether a client is one of them."""
        if client.command in ("sync", "psync", "monitor", "replconf"):
            return False
        heavy = self.memory_over is None or client.memory > self.memory_over
        return heavy and (self.idle_over is None or client.idle > self.idle_over)


class RedisClientKill(Action):
    """Close connections to Redis, each by its id, which is never used again."""

    name = "redis.client_kill"
    Parameters = ClientKillParameters
    idempotent = True
    timeout = timedelta(seconds=30)

    def __init__(self, world: ClientSet) -> None:
        """It talks to the service's Redis."""

    async def plan(self, service: Service, parameters: ClientKillParameters) -> PlannedCall:
        redis = bindings.redis(service)
        run_id, clients = await redis.run_id(), await redis.clients()
        chosen = _chosen(clients, parameters)
        if not chosen:
            raise TargetError(f"none of the {len(clients)} clients of {service.name} is meant")
        names = ", ".join(f"{client.id} ({client.address})" for client in chosen[:10])
        return PlannedCall(
            text=f"CLIENT KILL on {service.name} for {len(chosen)} of {len(clients)} connections: {names}",
            arguments={"ids": [client.id for client in chosen]},
            pin={"run_id": run_id},
            risk="What these clients wait for is lost; they may connect again at once.",
        )

    async def execute(self, service: Service, parameters: ClientKillParameters, call: PlannedCall) -> Result:
        redis, killed = bindings.redis(service), 0
        for client in call.arguments["ids"]:
            killed += await redis.kill_client(int(client), expected=str(call.pin["run_id"]))
        text = f"{killed} connections closed, {len(call.arguments['ids']) - killed} were gone already"
        return Result(Outcome.OK, text, {"killed": killed})

    async def observe(
        self, service: Service, parameters: ClientKillParameters, call: PlannedCall, since: datetime
    ) -> Observation:
        """They are there, or they are not."""
        there = {client.id for client in await bindings.redis(service).clients()} & set(call.arguments["ids"])
        happened = EffectStatus.NO if there else EffectStatus.YES
        return Observation(happened, f"{len(there)} of the connections are still open", {"open": sorted(there)})


def _chosen(clients: Sequence[Client], parameters: ClientKillParameters) -> list[Client]:
    meant = [client for client in clients if parameters.means(client)]
    return sorted(meant, key=lambda client: (-client.memory, client.id))[: parameters.limit]
