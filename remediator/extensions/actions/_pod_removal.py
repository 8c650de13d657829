"""The common parts of ``pod.delete`` and ``pod.evict``: choice, pin, cost and observation of the pod."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import ClassVar

import msgspec
from pydantic import Field

from remediator.core.cost import Cost
from remediator.core.outcome import Outcome
from remediator.core.plan import PlannedCall
from remediator.extensions import costs
from remediator.extensions.actions.base import Action, EffectStatus, Observation, Result
from remediator.extensions.parameters import Parameters
from remediator.extensions.platforms.base import SERVES, Removal
from remediator.playbooks.facts import Fact
from remediator.playbooks.inventory import Service


class PodParameters(Parameters):
    """Which pod to remove."""

    pod: str | None = Field(
        default=None,
        pattern=r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$",
        description="Name of a pod of the service; default: the only pod that does not serve.",
    )


class PodRemoval(Action):
    """Remove one pod."""

    Parameters = PodParameters
    removal: ClassVar[Removal]
    interrupts = True
    measures = (*costs.REDIS_FIELDS, *costs.INSTANCE_FIELDS)
    timeout = timedelta(seconds=30)
    facts = (Fact("pod", "string", "Name of the removed pod."),)

    async def plan(self, service: Service, parameters: PodParameters) -> PlannedCall:
        platform = self.clients.platform_of(service)
        await platform.require_rights(service, self.name)
        found = await platform.instance(service, parameters.pod, self.removal)
        return PlannedCall(
            text=found.text,
            arguments={"pod": found.name},
            pin=found.pin,
            volatile_fields=(SERVES,),
            risk=found.risk,
        )

    async def cost(self, service: Service, parameters: PodParameters, call: PlannedCall) -> Cost:
        """Return the loss; the removal of a pod that does not serve costs nothing."""
        cost = await costs.interruption(self.clients, service)
        found = await self.clients.platform_of(service).instance(service, str(call.arguments["pod"]), self.removal)
        return cost if found.ready else msgspec.structs.replace(cost, sole_instance=False)

    async def execute(self, service: Service, parameters: PodParameters, call: PlannedCall) -> Result:
        await self.clients.platform_of(service).remove(service, call.pin, self.removal)
        pod = str(call.arguments["pod"])
        return Result(Outcome.OK, f"pod {pod} ends, and its controller creates it again", {"pod": pod})

    async def observe(
        self, service: Service, parameters: PodParameters, call: PlannedCall, since: datetime
    ) -> Observation:
        """Look for the pod with the planned UID: gone or ending means removed."""
        pod, facts = call.arguments["pod"], {"pod": call.arguments["pod"]}
        if await self.clients.platform_of(service).is_removed(service, call.pin):
            return Observation(EffectStatus.YES, f"pod {pod} was removed", facts)
        return Observation(EffectStatus.NO, f"pod {pod} was not removed", facts)
