"""``flux.resume``: Let Flux reconcile the deployment of a service again."""

from __future__ import annotations

from remediator.clients.gitops.client import uid
from remediator.core.plan import PlannedCall
from remediator.errors import TargetError
from remediator.extensions import bindings
from remediator.extensions.actions._flux_suspension import FluxSuspension, is_suspended
from remediator.extensions.parameters import Parameters
from remediator.playbooks.inventory import Service


class FluxResume(FluxSuspension):
    """Resume the reconciliation of a Flux object."""

    name = "flux.resume"
    suspend, done = False, "no longer suspended"

    async def plan(self, service: Service, parameters: Parameters) -> PlannedCall:
        managed = bindings.flux(service)
        seen = await managed.read()
        if not is_suspended(seen):
            raise TargetError(f"{managed.name} is not suspended")
        return PlannedCall(
            text=f"{managed.name}: set spec.suspend to false",
            pin={"uid": uid(seen)},
            risk="Flux deploys the current commit at once, including changes made during the suspension.",
        )
