"""``argocd.pause``: Stop Argo CD from syncing an application automatically, so that changes by a run are not
reverted.

The undo is ``argocd.resume`` with the policy that was recorded.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from remediator.clients.gitops.client import automated, held_by, uid
from remediator.clients.kubernetes.models import Document
from remediator.core.outcome import Outcome
from remediator.core.plan import PlannedCall
from remediator.errors import TargetError
from remediator.extensions import bindings
from remediator.extensions.actions.base import Action, EffectStatus, Observation, Result, UndoCall
from remediator.extensions.parameters import Parameters
from remediator.playbooks.facts import Fact
from remediator.playbooks.inventory import Service

_KNOWN = frozenset({"prune", "selfHeal", "allowEmpty", "enabled"})


class ArgocdPause(Action):
    """Pause the automatic sync of an Argo CD Application."""

    name = "argocd.pause"
    needs = ("argocd",)
    reversible = True
    timeout = timedelta(seconds=60)
    facts = (Fact("automated", "object", "Removed sync policy."),)

    async def plan(self, service: Service, parameters: Parameters) -> PlannedCall:
        managed = bindings.argocd(service)
        seen = await managed.read()
        policy = automated(seen)
        if policy is None:
            raise TargetError(f"{managed.name}: automatic sync is already paused")
        if unknown := sorted(set(policy) - _KNOWN):
            raise TargetError(f"{managed.name}: an undo cannot restore these fields of automated: {', '.join(unknown)}")
        return PlannedCall(
            text=f"{managed.name}: remove spec.syncPolicy.automated ({policy or 'the default policy'})",
            arguments={"automated": policy},
            pin={"uid": uid(seen), "automated": policy},
            undo="restore spec.syncPolicy.automated",
            risk=f"New commits are not deployed until this is undone.{held_by(seen)}",
        )

    async def execute(self, service: Service, parameters: Parameters, call: PlannedCall) -> Result:
        managed = bindings.argocd(service)

        def decide(seen: Document) -> Document:
            if {"uid": uid(seen), "automated": automated(seen)} != dict(call.pin):
                raise TargetError(f"{managed.name} was modified after planning; nothing was changed")
            return {"spec": {"syncPolicy": {"automated": None}}}

        await managed.change(decide)
        return Result(Outcome.OK, f"{managed.name}: automatic sync is paused", dict(call.arguments))

    def undo_call(self, call: PlannedCall, output: Mapping[str, Any]) -> UndoCall:
        return UndoCall("argocd.resume", {"automated": dict(call.arguments["automated"])})

    async def observe(
        self, service: Service, parameters: Parameters, call: PlannedCall, since: datetime
    ) -> Observation:
        """Read the sync policy."""
        policy = automated(await bindings.argocd(service).read())
        if policy is None:
            return Observation(EffectStatus.YES, "automatic sync is paused")
        happened = EffectStatus.NO if policy == call.pin["automated"] else EffectStatus.UNKNOWN
        return Observation(happened, f"automatic sync is on: {policy}", {"automated": policy})
