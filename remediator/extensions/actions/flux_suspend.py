"""``flux.suspend``: Stop Flux from reconciling the deployment of a service, so that changes by a run are not
reverted.

Afterwards, ``service.restart``, ``service.scale`` and ``service.rollback`` keep their effect. To let Flux itself
roll back, do not suspend it; use ``flux.rollback``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from remediator.clients.gitops.client import held_by, uid
from remediator.core.plan import PlannedCall
from remediator.errors import TargetError
from remediator.extensions import bindings
from remediator.extensions.actions._flux_suspension import FluxSuspension, is_suspended
from remediator.extensions.actions.base import UndoCall
from remediator.extensions.parameters import Parameters
from remediator.playbooks.inventory import Service


class FluxSuspend(FluxSuspension):
    """Suspend the reconciliation of a Flux object."""

    name = "flux.suspend"
    reversible = True
    suspend, done = True, "suspended"

    async def plan(self, service: Service, parameters: Parameters) -> PlannedCall:
        managed = bindings.flux(service)
        seen = await managed.read()
        if is_suspended(seen):
            raise TargetError(f"{managed.name} is already suspended")
        return PlannedCall(
            text=f"{managed.name}: set spec.suspend to true",
            pin={"uid": uid(seen)},
            undo="set spec.suspend to false",
            risk=f"New commits are not deployed until this is undone.{held_by(seen)}",
        )

    def undo_call(self, call: PlannedCall, output: Mapping[str, Any]) -> UndoCall:
        return UndoCall("flux.resume", {})
