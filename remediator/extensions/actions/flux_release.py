"""``flux.release``: Let a Flux source follow its branch, tag or range again, after ``flux.rollback`` held it."""

from __future__ import annotations

from datetime import datetime, timedelta

from remediator.clients.gitops import flux
from remediator.clients.gitops.client import uid
from remediator.clients.kubernetes.models import Document
from remediator.core.outcome import Outcome
from remediator.core.plan import PlannedCall
from remediator.errors import TargetError
from remediator.extensions import bindings
from remediator.extensions.actions.base import Action, EffectStatus, Observation, Result
from remediator.extensions.parameters import Parameters
from remediator.playbooks.inventory import Service


class FluxRelease(Action):
    """Let a Flux source follow its branch, tag or range again."""

    name = "flux.release"
    needs = ("flux",)
    timeout = timedelta(seconds=60)

    async def plan(self, service: Service, parameters: Parameters) -> PlannedCall:
        managed = bindings.flux(service)
        source = flux.source(managed, await managed.read())
        seen = await source.read()
        if (at := flux.held(source, seen)) is None:
            raise TargetError(f"{source.name} is not held at a revision")
        return PlannedCall(
            text=f"{source.name}: remove spec.ref.{flux.HOLDS[source.kind]} ({at})",
            arguments={"source": source.name},
            pin={"source": uid(seen), "ref": flux.reference(seen)},
            risk="Flux deploys the current commit at once, including the version that was rolled back.",
        )

    async def execute(self, service: Service, parameters: Parameters, call: PlannedCall) -> Result:
        managed = bindings.flux(service)
        source = flux.source(managed, await managed.read())

        def decide(seen: Document) -> Document:
            if {"source": uid(seen), "ref": flux.reference(seen)} != dict(call.pin):
                raise TargetError(f"{source.name} was modified after planning; nothing was changed")
            held = flux.HOLDS[source.kind]
            alone = set(flux.reference(seen)) == {held}
            return {"spec": {"ref": None if alone else {held: None}}}

        await source.change(decide)
        return Result(Outcome.OK, f"{source.name} is no longer held at a revision")

    async def observe(
        self, service: Service, parameters: Parameters, call: PlannedCall, since: datetime
    ) -> Observation:
        """Read the field."""
        managed = bindings.flux(service)
        source = flux.source(managed, await managed.read())
        at = flux.held(source, await source.read())
        happened = EffectStatus.YES if at is None else EffectStatus.NO
        return Observation(happened, f"{source.name} is held at {at or 'nothing'}", {"held": at})
