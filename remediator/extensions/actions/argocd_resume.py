"""``argocd.resume``: Let Argo CD sync an application automatically again, with the earlier policy."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from remediator.clients.gitops.client import automated, uid, written_automated
from remediator.clients.kubernetes.models import Document
from remediator.core.outcome import Outcome
from remediator.core.plan import PlannedCall
from remediator.errors import TargetError
from remediator.extensions import bindings
from remediator.extensions.actions.base import Action, EffectStatus, Observation, Result
from remediator.extensions.parameters import Parameters
from remediator.playbooks.facts import Fact
from remediator.playbooks.inventory import Service


class Automated(BaseModel):
    """``spec.syncPolicy.automated``, with the field names of Argo CD."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    prune: bool | None = Field(default=None, description="Delete resources that were removed from git.")
    selfHeal: bool | None = Field(default=None, description="Revert manual changes.")
    allowEmpty: bool | None = Field(default=None, description="Sync even if git contains no resources.")
    enabled: bool | None = Field(default=None, description="Whether automatic sync is on.")


class ResumeParameters(Parameters):
    """Parameters of ``argocd.resume``."""

    automated: Automated = Field(default=Automated(), description="Sync policy; an undo uses the recorded policy.")


class ArgocdResume(Action):
    """Resume the automatic sync of an Argo CD Application."""

    name = "argocd.resume"
    needs = ("argocd",)
    Parameters = ResumeParameters
    timeout = timedelta(seconds=60)
    facts = (Fact("automated", "object", "Restored sync policy."),)

    async def plan(self, service: Service, parameters: ResumeParameters) -> PlannedCall:
        managed = bindings.argocd(service)
        seen = await managed.read()
        if (policy := automated(seen)) is not None:
            raise TargetError(f"{managed.name}: automatic sync is already on: {policy}")
        wanted = parameters.automated.model_dump(exclude_none=True)
        return PlannedCall(
            text=f"{managed.name}: set spec.syncPolicy.automated to {wanted}",
            arguments={"automated": wanted},
            pin={"uid": uid(seen)},
            risk="Argo CD deploys the current commit at once, including changes made during the pause.",
        )

    async def execute(self, service: Service, parameters: ResumeParameters, call: PlannedCall) -> Result:
        managed = bindings.argocd(service)

        def decide(seen: Document) -> Document:
            if {"uid": uid(seen)} != dict(call.pin) or automated(seen) is not None:
                raise TargetError(f"{managed.name} was modified after planning; nothing was changed")
            gone: dict[str, Any] = dict.fromkeys(written_automated(seen) or {})
            return {"spec": {"syncPolicy": {"automated": {**gone, **call.arguments["automated"]}}}}

        await managed.change(decide)
        return Result(Outcome.OK, f"{managed.name}: automatic sync is on again", dict(call.arguments))

    async def observe(
        self, service: Service, parameters: ResumeParameters, call: PlannedCall, since: datetime
    ) -> Observation:
        """Read the sync policy."""
        policy = automated(await bindings.argocd(service).read())
        if policy is None:
            return Observation(EffectStatus.NO, "automatic sync is paused")
        happened = EffectStatus.YES if policy == call.arguments["automated"] else EffectStatus.UNKNOWN
        return Observation(happened, f"automatic sync is on: {policy}", {"automated": policy})
