"""Who manages a Deployment besides its users: Argo CD, Flux, an autoscaler or Helm."""

from __future__ import annotations

from typing import Any

from remediator.clients.kubernetes.client import Kubernetes, KubernetesRefused
from remediator.clients.kubernetes.models import Workload

_ARGO_CD = ("argocd.argoproj.io/tracking-id", "argocd.argoproj.io/instance")
_FLUX = ("kustomize.toolkit.fluxcd.io/name", "helm.toolkit.fluxcd.io/name")
_INSTANCE = "app.kubernetes.io/instance"
"""Argo CD's default tracking label. Many charts set it too, so that the label alone does not prove Argo CD."""
_HELM_RELEASE = "meta.helm.sh/release-name"
_UNDONE_BY_GITOPS = ["service.rollback", "service.scale"]


async def owner_of(client: Kubernetes, deployment: Workload) -> dict[str, Any] | str | None:
    """Return the manager of a Deployment and the actions that it would revert; a sentence if it is unknown.

    Helm reverts nothing automatically: a change lasts until the next ``helm upgrade``.
    """
    labels, annotations = deployment.metadata.labels, deployment.metadata.annotations
    marks = {**labels, **annotations}
    for kind, names in (("argocd", _ARGO_CD), ("flux", _FLUX)):
        for name in names:
            if name in marks:
                return {"kind": kind, "name": marks[name].split(":")[0], "undoes": _UNDONE_BY_GITOPS}
    if _INSTANCE in labels and await _argo_cd_writes(client, deployment.metadata.name):
        return {"kind": "argocd", "name": labels[_INSTANCE], "undoes": _UNDONE_BY_GITOPS}
    try:
        scalers = await autoscalers_of(client, deployment.metadata.name)
    except KubernetesRefused as error:
        return f"cannot read the autoscalers: {error}"
    if scalers:
        return {"kind": "hpa", "name": scalers[0], "undoes": ["service.scale"]}
    if _HELM_RELEASE in annotations:
        return {"kind": "helm", "name": annotations[_HELM_RELEASE], "undoes": []}
    return None


async def autoscalers_of(client: Kubernetes, deployment: str) -> list[str]:
    """Return the names of the HorizontalPodAutoscalers that scale a Deployment."""
    found = await client.autoscalers()
    targets = [(each.metadata.name, each.spec.scale_target_ref) for each in found]
    return [name for name, target in targets if (target.kind, target.name) == ("Deployment", deployment)]


async def _argo_cd_writes(client: Kubernetes, deployment: str) -> bool:
    managers = await client.managers("deployments", deployment)
    return any(each.manager.startswith("argocd") for each in managers)
