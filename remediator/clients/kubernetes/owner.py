"""Who manages a workload besides its users: Argo CD, Flux, an autoscaler or Helm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from remediator.clients.kubernetes.client import Kubernetes, KubernetesRefused
from remediator.clients.kubernetes.kinds import WorkloadKind
from remediator.clients.kubernetes.models import Workload

_ARGO_CD = ("argocd.argoproj.io/tracking-id", "argocd.argoproj.io/instance")
_FLUX = ("kustomize.toolkit.fluxcd.io/name", "helm.toolkit.fluxcd.io/name")
_INSTANCE = "app.kubernetes.io/instance"
"""Argo CD's default tracking label. Many charts set it too, so that the label alone does not prove Argo CD."""
_HELM_RELEASE = "meta.helm.sh/release-name"
_UNDONE_BY_GITOPS = ["service.rollback", "service.scale"]


async def owner_of(client: Kubernetes, kind: WorkloadKind, workload: Workload) -> dict[str, Any] | str | None:
    """Return the manager of a workload and the actions that it would revert; a sentence if it is unknown.

    Helm reverts nothing automatically: a change lasts until the next ``helm upgrade``.
    """
    labels, annotations, name = workload.metadata.labels, workload.metadata.annotations, workload.metadata.name
    marks = {**labels, **annotations}
    for tool, keys in (("argocd", _ARGO_CD), ("flux", _FLUX)):
        for key in keys:
            if key in marks:
                return {"kind": tool, "name": marks[key].split(":")[0], "undoes": _UNDONE_BY_GITOPS}
    if _INSTANCE in labels:
        managers = await client.managers(kind.resource, name)
        if any(each.manager.startswith("argocd") for each in managers):
            return {"kind": "argocd", "name": labels[_INSTANCE], "undoes": _UNDONE_BY_GITOPS}
    try:
        scaler = await autoscaler_of(client, kind, name)
    except KubernetesRefused as error:
        return f"cannot read the autoscalers: {error}"
    if scaler is not None:
        return scaler
    if _HELM_RELEASE in annotations:
        return {"kind": "helm", "name": annotations[_HELM_RELEASE], "undoes": []}
    return None


async def autoscaler_of(client: Kubernetes, kind: WorkloadKind, name: str) -> dict[str, Any] | None:
    """Return the HorizontalPodAutoscaler that scales a workload as its manager, with its limits."""
    for scaler in await client.autoscalers():
        target, spec, status = scaler.spec.scale_target_ref, scaler.spec, scaler.status
        if (target.kind, target.name) == (kind, name):
            return {
                "kind": "hpa",
                "name": scaler.metadata.name,
                "undoes": ["service.scale"],
                "minimum": spec.min_replicas,
                "maximum": spec.max_replicas,
                "current": status.current_replicas,
                "desired": status.desired_replicas,
            }
    return None


def why_not_scaled(scaler: Mapping[str, Any]) -> str:
    """Return why only the autoscaler may scale, and the next action.

    Args:
        scaler: as `autoscaler_of` returned it.
    """
    full = scaler["desired"] >= scaler["maximum"]
    return (
        f"HorizontalPodAutoscaler {scaler['name']} sets the number of pods, from {scaler['minimum']} to "
        f"{scaler['maximum']}, and would revert it; "
        + ("it is at its maximum, which a person can raise" if full else "change its limits instead")
    )
