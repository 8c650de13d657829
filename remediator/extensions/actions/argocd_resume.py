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
from remediator.extensions.clientset import ClientSet
from remediator.extensions.parameters import Parameters
from remediator.playbooks.inventory import Service


class Automated(BaseModel):
    """``spec.syncPolicy.automated``, in Argo CD's own words."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    prune: bool | None = Field(default=None, description="Delete what is not in git any more.")
    selfHeal: bool | None = Field(default=None, description="Put back what was changed by hand.")
    allowEmpty: bool | None = Field(default=None, description="Also if nothing at all is in git.")
    enabled: bool | None = Field(default=None, description="Whether it is on.")


class ResumeParameters(Parameters):
    """How it syncs."""

    automated: Automated = Field(default=Automated(), description="Sync policy; an undo uses the recorded one.")


class ArgocdResume(Action):
    """Resume the automatic syncs of an Argo CD Application."""

    name = "argocd.resume"
    Parameters = ResumeParameters
    timeout = timedelta(seconds=60)

    def __init__(self, world: ClientSet) -> None:
        """It talks to the cluster that the service's Application is in."""

    async def plan(self, service: Service, parameters: ResumeParameters) -> PlannedCall:
        managed = bindings.argocd(service)
        seen = await managed.read()
        if (policy := automated(seen)) is not None:
            raise TargetError(f"{managed.name} syncs by itself already: {policy}")
        wanted = _wanted(parameters)
        return PlannedCall(
            text=f"{managed.name}: set spec.syncPolicy.automated to {wanted}",
            arguments={"automated": wanted},
            pin={"uid": uid(seen)},
            risk="Whatever git says is deployed at once, also what was kept out by pausing.",
        )

    async def execute(self, service: Service, parameters: ResumeParameters, call: PlannedCall) -> Result:
        managed = bindings.argocd(service)

        def decide(seen: Document) -> Document:
            if {"uid": uid(seen)} != dict(call.pin) or automated(seen) is not None:
                raise TargetError(f"{managed.name} was changed since the plan was made; nothing was done")
            gone: dict[str, Any] = dict.fromkeys(written_automated(seen) or {})
            return {"spec": {"syncPolicy": {"automated": {**gone, **call.arguments["automated"]}}}}

        await managed.change(decide)
        return Result(Outcome.OK, f"{managed.name} syncs by itself again", dict(call.arguments))

    async def observe(
        self, service: Service, parameters: ResumeParameters, call: PlannedCall, since: datetime
    ) -> Observation:
        """The policy says it."""
        policy = automated(await bindings.argocd(service).read())
        if policy is None:
            return Observation(EffectStatus.NO, "it does not sync by itself")
        happened = EffectStatus.YES if policy == call.arguments["automated"] else EffectStatus.CANNOT_TELL
        return Observation(happened, f"it syncs by itself: {policy}", {"automated": policy})


def _wanted(parameters: ResumeParameters) -> dict[str, bool]:
    return parameters.automated.model_dump(exclude_none=True)
