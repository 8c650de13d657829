"""``service.scale``: Change the number of instances of a service, where its platform supports it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from pydantic import Field, model_validator

from remediator.core.cost import Cost
from remediator.core.outcome import Outcome
from remediator.core.plan import PlannedCall
from remediator.errors import TargetError
from remediator.extensions import costs
from remediator.extensions.actions.base import Action, EffectStatus, Observation, Result, UndoCall
from remediator.extensions.parameters import Parameters
from remediator.extensions.platforms.base import OWN_RESTARTS
from remediator.playbooks.facts import Fact
from remediator.playbooks.inventory import Service


class ScaleParameters(Parameters):
    """Parameters of ``service.scale``."""

    replicas: int | None = Field(default=None, ge=0, le=1000, description="Number of instances.")
    by: int | None = Field(default=None, ge=-100, le=100, description="Number of instances to add; negative to remove.")
    minimum: int = Field(default=1, ge=0, description="Lowest allowed number of instances.")
    maximum: int = Field(default=10, ge=1, le=1000, description="Highest allowed number of instances.")

    @model_validator(mode="after")
    def _one(self) -> ScaleParameters:
        if (self.replicas is None) == (self.by is None):
            raise ValueError("set exactly one of 'replicas' and 'by'")
        if self.minimum > self.maximum:
            raise ValueError(f"minimum {self.minimum} is greater than maximum {self.maximum}")
        return self

    def wanted(self, now: int) -> int:
        """Return the wanted number of instances.

        Args:
            now: current number of instances.
        """
        asked = self.replicas if self.replicas is not None else now + (self.by or 0)
        return min(max(asked, self.minimum), self.maximum)


class ServiceScale(Action):
    """Change the number of instances of a service."""

    name = "service.scale"
    Parameters = ScaleParameters
    reversible = True
    measures = (*costs.REDIS_FIELDS, *costs.INSTANCE_FIELDS)
    timeout = timedelta(seconds=120)
    facts = (
        Fact("from", "integer", "Instances before the action."),
        Fact("to", "integer", "Instances after the action."),
    )

    async def plan(self, service: Service, parameters: ScaleParameters) -> PlannedCall:
        platform = self.clients.platform_of(service)
        await platform.require_rights(service, self.name)
        status = await platform.status(service)
        now = int(status.facts.get("replicas", status.instances))
        wanted = parameters.wanted(now)
        if status.scaled_by:
            raise TargetError(f"cannot scale {service.name}: {status.scaled_by}")
        text = platform.describe_scale(service, wanted)
        if wanted == now:
            raise TargetError(f"{service.name} already has {now} instances, and the limits allow no other number")
        return PlannedCall(
            text=f"{text} ({now} now)",
            arguments={"from": now, "to": wanted},
            pin=status.pin,
            volatile_fields=(OWN_RESTARTS,),
            undo=f"scale {service.name} back to {now}",
            risk="Each instance uses connections, memory and disk space." if wanted > now else None,
        )

    async def cost(self, service: Service, parameters: ScaleParameters, call: PlannedCall) -> Cost:
        """Measure only if instances are removed: more of them interrupt nothing."""
        if int(call.arguments["to"]) > int(call.arguments["from"]):
            return Cost()
        return await costs.interruption(self.clients, service)

    async def execute(self, service: Service, parameters: ScaleParameters, call: PlannedCall) -> Result:
        await self.clients.platform_of(service).scale(service, call.pin, int(call.arguments["to"]))
        status = await self.clients.platform_of(service).status(service)
        now = int(status.facts.get("replicas", status.instances))
        if now == call.arguments["from"]:
            text = f"nothing was changed: {service.name} still has {now} instances: {status.summary}"
            return Result(Outcome.FAILED, text, dict(call.arguments))
        return Result(Outcome.OK, f"{service.name}: {status.summary}", dict(call.arguments))

    def undo_call(self, call: PlannedCall, output: Mapping[str, Any]) -> UndoCall:
        before = int(call.arguments["from"])
        bounds = {"minimum": min(before, 1), "maximum": max(before, 1)}
        return UndoCall(self.name, {"replicas": before, **bounds})

    async def observe(
        self, service: Service, parameters: ScaleParameters, call: PlannedCall, since: datetime
    ) -> Observation:
        """Compare the number of instances that the platform reports."""
        status = await self.clients.platform_of(service).status(service)
        now = int(status.facts.get("replicas", status.instances))
        if now == call.arguments["to"]:
            return Observation(EffectStatus.YES, f"{service.name} has {now} instances", {"replicas": now})
        if now == call.arguments["from"]:
            return Observation(EffectStatus.NO, f"{service.name} still has {now} instances", {"replicas": now})
        return Observation(EffectStatus.UNKNOWN, f"{service.name} has {now} instances", {"replicas": now})
