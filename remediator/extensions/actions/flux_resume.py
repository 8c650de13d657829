"""``flux.resume``: Let Flux reconcile the deployment of a service again."""

from __future__ import annotations

from datetime import datetime, timedelta

from remediator.clients.gitops.client import uid
from remediator.clients.kubernetes.models import Document
from remediator.core.outcome import Outcome
from remediator.core.plan import PlannedCall
from remediator.errors import TargetError
from remediator.extensions import bindings
from remediator.extensions.actions.base import Action, EffectStatus, Observation, Result
from remediator.extensions.parameters import Parameters
from remediator.playbooks.inventory import Service


class FluxResume(Action):
    """Resume the reconciliation of a Flux object."""

    name = "flux.resume"
    needs = ("flux",)
    timeout = timedelta(seconds=60)

    async def plan(self, service: Service, parameters: Parameters) -> PlannedCall:
        managed = bindings.flux(service)
        seen = await managed.read()
        if not seen["spec"].get("suspend"):
            raise TargetError(f"{managed.name} is not suspended")
        return PlannedCall(
            text=f"{managed.name}: set spec.suspend to false",
            pin={"uid": uid(seen)},
            risk="Flux deploys the current commit at once, including changes made during the suspension.",
        )

    async def execute(self, service: Service, parameters: Parameters, call: PlannedCall) -> Result:
        managed = bindings.flux(service)

        def decide(seen: Document) -> Document:
            if {"uid": uid(seen)} != dict(call.pin) or not seen["spec"].get("suspend"):
                raise TargetError(f"{managed.name} was modified after planning; nothing was changed")
            return {"spec": {"suspend": False}}

        await managed.change(decide)
        return Result(Outcome.OK, f"{managed.name} is no longer suspended")

    async def observe(
        self, service: Service, parameters: Parameters, call: PlannedCall, since: datetime
    ) -> Observation:
        """Read the field."""
        suspended = bool((await bindings.flux(service).read())["spec"].get("suspend"))
        happened = EffectStatus.NO if suspended else EffectStatus.YES
        return Observation(happened, f"suspended: {suspended}", {"suspended": suspended})
