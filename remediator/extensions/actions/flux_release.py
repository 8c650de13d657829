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
from remediator.extensions.clientset import ClientSet
from remediator.extensions.parameters import Parameters
from remediator.playbooks.inventory import Service


class FluxRelease(Action):
    """Let the source of what Flux deploys follow again."""

    name = "flux.release"
    timeout = timedelta(seconds=60)

    def __init__(self, world: ClientSet) -> None:
        """It talks to the cluster that the Flux object is in."""

    async def plan(self, service: Service, parameters: Parameters) -> PlannedCall:
        managed = bindings.flux(service)
        source = flux.source(managed, await managed.read())
        seen = await source.read()
        if (at := flux.held(source, seen)) is None:
            raise TargetError(f"{source.name} is held at nothing: it follows already")
        return PlannedCall(
            text=f"{source.name}: take spec.ref.{flux.HOLDS[source.kind]} ({at}) away",
            arguments={"source": source.name},
            pin={"source": uid(seen), "ref": flux.reference(seen)},
            risk="Whatever git says is deployed at once, also what was gone back from.",
        )

    async def execute(self, service: Service, parameters: Parameters, call: PlannedCall) -> Result:
        managed = bindings.flux(service)
        source = flux.source(managed, await managed.read())

        def decide(seen: Document) -> Document:
            if {"source": uid(seen), "ref": flux.reference(seen)} != dict(call.pin):
                raise TargetError(f"{source.name} was changed since the plan was made; nothing was done")
            held = flux.HOLDS[source.kind]
            alone = set(flux.reference(seen)) == {held}
            return {"spec": {"ref": None if alone else {held: None}}}

        await source.change(decide)
        return Result(Outcome.OK, f"{source.name} follows again")

    async def observe(
        self, service: Service, parameters: Parameters, call: PlannedCall, since: datetime
    ) -> Observation:
        """The field says it."""
        managed = bindings.flux(service)
        source = flux.source(managed, await managed.read())
        at = flux.held(source, await source.read())
        happened = EffectStatus.YES if at is None else EffectStatus.NO
        return Observation(happened, f"{source.name} is held at {at or 'nothing'}", {"held": at})
