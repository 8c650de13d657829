"""``flux.rollback``: Tell Flux to deploy the previous revision, by holding the source at that revision.

The status of a Kustomization records the revisions that were applied successfully. The action holds its
GitRepository or OCIRepository at the previous one (``spec.ref.commit`` or ``digest``). Flux itself then rolls
back, prunes as usual and does not revert it. By default, a source that is already held is never moved. For a
HelmRelease, Flux records no values: suspend it (``flux.suspend``) and use ``service.rollback``.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from pydantic import Field

from remediator.clients.gitops import flux
from remediator.clients.gitops.client import Managed, held_by, uid
from remediator.clients.kubernetes.models import Document
from remediator.core.outcome import Outcome
from remediator.core.plan import PlannedCall
from remediator.errors import TargetError
from remediator.extensions import bindings
from remediator.extensions.actions.base import Action, EffectStatus, Observation, Result, UndoCall
from remediator.extensions.clientset import ClientSet
from remediator.extensions.parameters import Parameters
from remediator.playbooks.inventory import Service


class RollbackParameters(Parameters):
    """To what."""

    to: str | None = Field(
        default=None,
        min_length=7,
        description="Recorded revision, or its commit or digest; default: the previous one.",
    )


class FluxRollback(Action):
    """Roll what Flux deploys back to what it had deployed before."""

    name = "flux.rollback"
    Parameters = RollbackParameters
    reversible = True
    timeout = timedelta(seconds=60)

    def __init__(self, world: ClientSet) -> None:
        """It talks to the cluster that the Flux object is in."""

    async def plan(self, service: Service, parameters: RollbackParameters) -> PlannedCall:
        managed = bindings.flux(service)
        deployed = await managed.read()
        source = flux.source(managed, deployed)
        seen = await source.read()
        _goes_on(managed, deployed)
        _goes_on(source, seen)
        before, field = flux.held(source, seen), flux.HOLDS[source.kind]
        now, revision = _way_back(managed.name, source, deployed, before, parameters.to)
        point = flux.point(source.kind, revision)
        return PlannedCall(
            text=f"{source.name}: set spec.ref.{field} to {point} ({revision}), from {now}",
            arguments={"source": source.name, "point": point, "revision": revision, "held": before},
            pin=_pin(deployed, seen),
            undo=f"set spec.ref.{field} to {before} again" if before else f"take spec.ref.{field} away again",
            risk="Everything that is deployed from this source goes back with it. What is committed from now on is not "
            f"deployed: mend it in git before the source is let go (flux.release).{held_by(seen)}",
        )

    async def execute(self, service: Service, parameters: RollbackParameters, call: PlannedCall) -> Result:
        managed = bindings.flux(service)
        deployed = await managed.read()
        source = flux.source(managed, deployed)
        point = str(call.arguments["point"])

        def decide(seen: Document) -> Document:
            if _pin(deployed, seen) != dict(call.pin) or source.name != call.arguments["source"]:
                raise TargetError(f"{managed.name} was changed since the plan was made; nothing was done")
            _goes_on(managed, deployed)
            _goes_on(source, seen)
            return {"spec": {"ref": {flux.HOLDS[source.kind]: point}}}

        await source.change(decide)
        return Result(Outcome.OK, f"{source.name} is held at {call.arguments['revision']}", dict(call.arguments))

    def back(self, call: PlannedCall, output: Mapping[str, Any]) -> UndoCall:
        before = call.arguments["held"]
        return UndoCall(self.name, {"to": before}) if before else UndoCall("flux.release", {})

    async def observe(
        self, service: Service, parameters: RollbackParameters, call: PlannedCall, since: datetime
    ) -> Observation:
        """The field says it."""
        managed = bindings.flux(service)
        source = flux.source(managed, await managed.read())
        seen = await source.read()
        at = flux.held(source, seen)
        if at == call.arguments["point"]:
            return Observation(EffectStatus.YES, f"{source.name} is held at {at}", {"held": at})
        untouched = flux.reference(seen) == call.pin["ref"]
        happened = EffectStatus.NO if untouched else EffectStatus.CANNOT_TELL
        return Observation(happened, f"{source.name} is held at {at or 'nothing'}", {"held": at})


def _pin(deployed: Document, seen: Document) -> dict[str, Any]:
    return {
        "uid": uid(deployed),
        "source": uid(seen),
        "ref": flux.reference(seen),
        "revision": flux.attempted(deployed),
    }


def _goes_on(managed: Managed, seen: Document) -> None:
    if seen["spec"].get("suspend"):
        raise TargetError(f"{managed.name} is suspended: Flux would deploy nothing; resume it first")


def _way_back(name: str, source: Managed, deployed: Document, held: str | None, to: str | None) -> tuple[str, str]:
    """What is deployed, and the revision to go back to: the named one, or the newest other that was applied.

    Raises:
        TargetError: there is none; or the source is held already, so that going on is a person's choice.
    """
    now = flux.attempted(deployed)
    if now is None:
        raise TargetError(f"{name} has deployed nothing yet")
    current = held or flux.point(source.kind, now)
    others = [each for each in flux.applied(deployed) if flux.point(source.kind, each) != current]
    if to is not None:
        found = next((each for each in others if to in (each, flux.point(source.kind, each))), None)
        if found is None:
            there = ", ".join(others) or "none"
            raise TargetError(f"{name}: {to} is not recorded as applied, or is what is deployed; there are: {there}")
        return now, found
    if held is not None:
        raise TargetError(f"{source.name} is held at {held} already; going on is a person's choice, by its revision")
    if not others:
        raise TargetError(f"{name}: nothing else is recorded as applied before {now} (Flux records more since 2.7)")
    return now, others[0]
