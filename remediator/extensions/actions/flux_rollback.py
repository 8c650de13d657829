"""``flux.rollback``: Tell Flux to deploy the previous revision, by holding the source at that revision.

The status of a Kustomization records the revisions that were applied successfully. The action holds its GitRepository
or OCIRepository at the previous one (``spec.ref.commit`` or ``digest``). Flux itself then rolls back, prunes as usual
and does not revert it. By default, the action never moves a source that is already held, and never chooses a revision
that was rolled back before. For a HelmRelease, Flux records no values: suspend it (``flux.suspend``) and use
``service.rollback``.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from pydantic import Field

from remediator.clients.gitops import flux
from remediator.clients.gitops.client import Managed, held_by, uid
from remediator.clients.kubernetes.models import Document
from remediator.core.cost import Cost
from remediator.core.outcome import Outcome
from remediator.core.plan import PlannedCall
from remediator.core.release import Release, ReleaseChange, previous
from remediator.errors import TargetError
from remediator.extensions import bindings, costs
from remediator.extensions.actions._flux_suspension import is_suspended
from remediator.extensions.actions.base import RELEASES, Action, EffectStatus, Observation, Result, UndoCall
from remediator.extensions.parameters import Parameters
from remediator.playbooks.facts import Fact
from remediator.playbooks.inventory import Service


class RollbackParameters(Parameters):
    """Parameters of the rollback."""

    to: str | None = Field(
        default=None,
        min_length=7,
        description="Recorded revision, or its commit or digest; default: the previous one.",
    )


class FluxRollback(Action):
    """Hold a Flux source at an earlier revision, so that Flux rolls back."""

    name = "flux.rollback"
    needs = ("flux",)
    Parameters = RollbackParameters
    interrupts = True
    measures = (*costs.REDIS_FIELDS, *costs.INSTANCE_FIELDS)
    reversible = True
    reads_releases = True
    timeout = timedelta(seconds=60)
    facts = (
        Fact("source", "string", "Kind and name of the source."),
        Fact("point", "string", "Value of the field that holds the source."),
        Fact("revision", "string", "Requested revision."),
        Fact("held", "string", "Earlier value of the field; null if the source was not held."),
    )

    async def plan(self, service: Service, parameters: RollbackParameters) -> PlannedCall:
        managed = bindings.flux(service)
        deployed = await managed.read()
        source = flux.source(managed, deployed)
        seen = await source.read()
        _refuse_if_suspended(managed, deployed)
        _refuse_if_suspended(source, seen)
        before, field = flux.held(source, seen), flux.HOLDS[source.kind]
        now, restored = _current_and_previous(managed.name, source, deployed, before, parameters.to)
        point = flux.point(source.kind, restored.id)
        return PlannedCall(
            text=f"{source.name}: roll back from {now.title} to {restored.title}: set spec.ref.{field} to {point}",
            arguments={"source": source.name, "point": point, "revision": restored.id, "held": before},
            pin=_pin(deployed, seen),
            undo=f"set spec.ref.{field} back to {before}" if before else f"remove spec.ref.{field}",
            risk="Everything deployed from this source is rolled back too. New commits are not deployed: revert the "
            f"change in git, then release the source with flux.release.{held_by(seen)}",
            release_change=ReleaseChange(now.key, now.title, restored.key, restored.title),
        )

    async def cost(self, service: Service, parameters: RollbackParameters, call: PlannedCall) -> Cost:
        return await costs.interruption(self.clients, service)

    async def execute(self, service: Service, parameters: RollbackParameters, call: PlannedCall) -> Result:
        managed = bindings.flux(service)
        deployed = await managed.read()
        source = flux.source(managed, deployed)
        point = str(call.arguments["point"])

        def decide(seen: Document) -> Document:
            if _pin(deployed, seen) != dict(call.pin) or source.name != call.arguments["source"]:
                raise TargetError(f"{managed.name} was modified after planning; nothing was changed")
            _refuse_if_suspended(managed, deployed)
            _refuse_if_suspended(source, seen)
            return {"spec": {"ref": {flux.HOLDS[source.kind]: point}}}

        await source.change(decide)
        return Result(Outcome.OK, f"{source.name} is held at {call.arguments['revision']}", dict(call.arguments))

    def undo_call(self, call: PlannedCall, output: Mapping[str, Any]) -> UndoCall:
        before = call.arguments["held"]
        return UndoCall(self.name, {"to": before}) if before else UndoCall("flux.release", {})

    async def observe(
        self, service: Service, parameters: RollbackParameters, call: PlannedCall, since: datetime
    ) -> Observation:
        """Read the field."""
        managed = bindings.flux(service)
        source = flux.source(managed, await managed.read())
        seen = await source.read()
        at = flux.held(source, seen)
        if at == call.arguments["point"]:
            return Observation(EffectStatus.YES, f"{source.name} is held at {at}", {"held": at})
        untouched = flux.reference(seen) == call.pin["ref"]
        happened = EffectStatus.NO if untouched else EffectStatus.UNKNOWN
        return Observation(happened, f"{source.name} is held at {at or 'nothing'}", {"held": at})


def _pin(deployed: Document, seen: Document) -> dict[str, Any]:
    return {
        "uid": uid(deployed),
        "source": uid(seen),
        "ref": flux.reference(seen),
        "revision": flux.attempted(deployed),
    }


def _refuse_if_suspended(managed: Managed, seen: Document) -> None:
    if is_suspended(seen):
        raise TargetError(
            f"{managed.name} is suspended, so that Flux deploys nothing; resume it first with flux.resume"
        )


def _current_and_previous(
    name: str, source: Managed, deployed: Document, held: str | None, to: str | None
) -> tuple[Release, Release]:
    """Return the deployed revision and the target of a rollback: the named revision, or the newest that was not rolled
    back.

    Raises:
        TargetError: there is no such revision, or the source is already held. Then only a named revision is accepted.
    """
    attempted = flux.attempted(deployed)
    if attempted is None:
        raise TargetError(f"{name} has not deployed anything yet")
    releases = flux.releases(source.kind, deployed, attempted)
    now = releases[0]
    others = [each for each in releases if each.key != (held or now.key)]
    if to is not None:
        found = next((each for each in others if to in (each.id, each.key)), None)
        if found is None:
            there = ", ".join(each.id for each in others) or "none"
            raise TargetError(f"{name}: {to} was not applied or is deployed now; other revisions: {there}")
        return now, found
    if held is not None:
        raise TargetError(f"{source.name} is already held at {held}; to go back further, set 'to' to a revision")
    if not others:
        raise TargetError(
            f"{name}: no other revision was applied before {now.id}; Flux records earlier revisions since version 2.7"
        )
    return previous(name, releases, RELEASES.get())
