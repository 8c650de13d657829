"""GitOps objects in Kubernetes: Argo CD Applications, Flux Kustomizations and HelmReleases, and their sources.

They are plain objects whose fields the controllers read. They need only the protocol and the credentials of the
cluster. For each change, the API server compares the version that was read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import aclosing
from typing import Any, Literal

from remediator.clients.kubernetes.client import Kubernetes, KubernetesRefused
from remediator.clients.kubernetes.conflicts import repeat_on_conflict
from remediator.clients.kubernetes.kubeconfig import access
from remediator.clients.kubernetes.models import Document
from remediator.clients.kubernetes.settings import ClusterSettings
from remediator.errors import BadAnswer, TargetError

Kind = Literal["Application", "Kustomization", "HelmRelease", "GitRepository", "OCIRepository"]

_RESOURCES: Mapping[str, str] = {
    "Application": "argoproj.io/v1alpha1/applications",
    "Kustomization": "kustomize.toolkit.fluxcd.io/v1/kustomizations",
    "HelmRelease": "helm.toolkit.fluxcd.io/v2/helmreleases",
    "GitRepository": "source.toolkit.fluxcd.io/v1/gitrepositories",
    "OCIRepository": "source.toolkit.fluxcd.io/v1/ocirepositories",
}
_MADE_BY = ("argocd.argoproj.io/tracking-id", "argocd.argoproj.io/instance", "kustomize.toolkit.fluxcd.io/name")


class Managed:
    """A client of one object. Raises what `Kubernetes` raises, and ``TargetError`` if the object does not exist."""

    def __init__(self, cluster: ClusterSettings, namespace: str, kind: Kind, name: str) -> None:
        self.kind = kind
        self.name = f"{kind} {namespace}/{name}"
        self._cluster = cluster
        self._namespace = namespace
        self._resource = _RESOURCES[kind]
        self._named = name

    def beside(self, kind: Kind, name: str, namespace: str | None = None) -> Managed:
        """Return another object of the cluster; default: in the same namespace."""
        return Managed(self._cluster, namespace or self._namespace, kind, name)

    async def read(self) -> Document:
        """Return the object."""
        async with aclosing(self._connect()) as client:
            return await self._read(client)

    async def change(self, decide: Callable[[Document], Document]) -> None:
        """Read the object and apply the patch that ``decide`` returns. Retry if the object changed in between.

        ``decide`` raises ``TargetError`` if the object is not as planned.
        """
        async with aclosing(self._connect()) as client:

            async def once() -> None:
                seen = await self._read(client)
                version = str(seen["metadata"]["resourceVersion"])
                await client.patch_custom(self._resource, self._named, decide(seen), expected=version)

            await repeat_on_conflict(once)

    def _connect(self) -> Kubernetes:
        return Kubernetes(access(self._cluster, self._namespace))

    async def _read(self, client: Kubernetes) -> Document:
        try:
            seen = await client.custom(self._resource, self._named)
        except KubernetesRefused as error:
            if error.status != 404:
                raise
            raise TargetError(f"{self.name} does not exist: correct the inventory, or install its CRD") from None
        metadata = seen.get("metadata")
        whole = isinstance(metadata, dict) and {"uid", "resourceVersion"} <= set(metadata)
        if not whole or not isinstance(seen.get("spec"), dict):
            raise BadAnswer(f"{self.name}: the answer of the API server is not an object of this kind")
        return seen


def uid(seen: Document) -> str:
    """Return the UID of the object. A recreated object has another UID."""
    return str(seen["metadata"]["uid"])


def maker(seen: Document) -> str | None:
    """Return the controller that created this object and may revert changes to it, or None."""
    metadata = seen["metadata"]
    for owner in metadata.get("ownerReferences") or ():
        return f"{owner.get('kind')} {owner.get('name')}"
    marks = {**(metadata.get("labels") or {}), **(metadata.get("annotations") or {})}
    return next((str(marks[name]).partition(":")[0] for name in _MADE_BY if name in marks), None)


def held_by(seen: Document) -> str:
    """Return a sentence about that for the risk of a change, or an empty string."""
    made_by = maker(seen)
    return f" {made_by} created it and may revert the change at once." if made_by else ""


def written_automated(application: Document) -> dict[str, Any] | None:
    """Return ``spec.syncPolicy.automated``, or None."""
    found = (application["spec"].get("syncPolicy") or {}).get("automated")
    return None if found is None else dict(found)


def automated(application: Document) -> dict[str, Any] | None:
    """Return the settings of automated sync, or None if it is off (also by ``enabled: false``)."""
    found = written_automated(application)
    return None if found is None or found.get("enabled") is False else found


def history(application: Document) -> list[dict[str, Any]]:
    """Return the deployments, newest first: ``id``, ``revision`` (or ``revisions``), ``source`` (or ``sources``)."""
    found = (application.get("status") or {}).get("history") or []
    whole = [dict(each) for each in found if isinstance(each.get("id"), int)]
    return sorted(whole, key=lambda each: -int(each["id"]))


def operations(application: Document) -> list[dict[str, Any]]:
    """Return the requested operation, and the running or last one."""
    state = (application.get("status") or {}).get("operationState") or {}
    return [dict(each) for each in (application.get("operation"), state.get("operation")) if each]


def busy(application: Document) -> bool:
    """Return whether an operation is requested or running."""
    state = (application.get("status") or {}).get("operationState") or {}
    return bool(application.get("operation")) or state.get("phase") in ("Running", "Terminating")
