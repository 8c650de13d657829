"""``flux.suspend``: Stop Flux from reconciling the deployment of a service, so that changes by a run are not
reverted.

Afterwards, ``service.restart``, ``service.scale`` and ``service.rollback`` keep their effect. To let Flux itself
roll back, do not suspend it; use ``flux.rollback``.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from remediator.clients.gitops.client import held_by, uid
from remediator.clients.kubernetes.models import Document
from remediator.core.outcome import Outcome
from remediator.core.plan import PlannedCall
from remediator.errors import TargetError
from remediator.extensions import bindings
from remediator.extensions.actions.base import Action, EffectStatus, Observation, Result, UndoCall
from remediator.extensions.parameters import Parameters
from remediator.playbooks.inventory import Service


class FluxSuspend(Action):
    """Suspend the reconciliation of a Flux object."""

    name = "flux.suspend"
    needs = ("flux",)
    reversible = True
    timeout = timedelta(seconds=60)

    async def plan(self, service: Service, parameters: Parameters) -> PlannedCall:
        managed = bindings.flux(service)
        seen = await managed.read()
        if seen["spec"].get("suspend"):
            raise TargetError(f"{managed.name} is already suspended")
        return PlannedCall(
            text=f"{managed.name}: set spec.suspend to true",
            pin={"uid": uid(seen)},
            undo="set spec.suspend to false",
            risk=f"New commits are not deployed until this is undone.{held_by(seen)}",
        )

    async def execute(self, service: Service, parameters: Parameters, call: PlannedCall) -> Result:
        managed = bindings.flux(service)

        def decide(seen: Document) -> Document:
            if {"uid": uid(seen)} != dict(call.pin) or seen["spec"].get("suspend"):
                raise TargetError(f"{managed.name} was modified after planning; nothing was changed")
            return {"spec": {"suspend": True}}

        await managed.change(decide)
        return Result(Outcome.OK, f"{managed.name} is suspended")

    def undo_call(self, call: PlannedCall, output: Mapping[str, Any]) -> UndoCall:
        return UndoCall("flux.resume", {})

    async def observe(
        self, service: Service, parameters: Parameters, call: PlannedCall, since: datetime
    ) -> Observation:
        """Read the field."""
        suspended = bool((await bindings.flux(service).read())["spec"].get("suspend"))
        happened = EffectStatus.YES if suspended else EffectStatus.NO
        return Observation(happened, f"suspended: {suspended}", {"suspended": suspended})
