"""What keeps a service as git says: an Argo CD Application, a Flux Kustomization or HelmRelease and what that takes its
manifests from, by Kubernetes' API.

These are plain objects with fields that their controllers read; there is no other protocol, and no login but the
cluster's. A change is compared by the API server against the version that was read.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Literal

from remediator.clients.kubernetes.client import Kubernetes, KubernetesRefused, Moved
from remediator.clients.kubernetes.kubeconfig import KubernetesEndpoint, access
from remediator.clients.kubernetes.models import Document
from remediator.errors import BadAnswer, ConfigurationError, TargetError

Kind = Literal["Application", "Kustomization", "HelmRelease", "GitRepository", "OCIRepository"]

_RESOURCES: Mapping[str, str] = {
    "Application": "argoproj.io/v1alpha1/applications",
    "Kustomization": "kustomize.toolkit.fluxcd.io/v1/kustomizations",
    "HelmRelease": "helm.toolkit.fluxcd.io/v2/helmreleases",
    "GitRepository": "source.toolkit.fluxcd.io/v1/gitrepositories",
    "OCIRepository": "source.toolkit.fluxcd.io/v1/ocirepositories",
}
_MADE_BY = ("argocd.argoproj.io/tracking-id", "argocd.argoproj.io/instance", "kustomize.toolkit.fluxcd.io/name")
_TRIES = 5


class Managed:
    """One such object. Raises what `Kubernetes` raises, and ``TargetError`` where it is not there."""

    def __init__(self, endpoint: KubernetesEndpoint, kind: Kind, name: str) -> None:
        self.kind = kind
        self.name = f"{kind} {endpoint.namespace}/{name}"
        self._endpoint = endpoint
        self._resource = _RESOURCES[kind]
        self._named = name

    def beside(self, kind: Kind, name: str, namespace: str | None = None) -> Managed:
        """Another object of the same cluster, in the same namespace if none is named."""
        there = {"namespace": namespace or self._endpoint.namespace}
        return Managed(self._endpoint.model_copy(update=there), kind, name)

    async def read(self) -> Document:
        """The object as it is now, whole."""
        async with self._connected() as client:
            return await self._read(client)

    async def change(self, decide: Callable[[Document], Document]) -> None:
        """Read it, and patch it as ``decide`` says of what was read; again if its status was written in between.

        ``decide`` raises ``TargetError`` if it is not what was planned against.
        """
        async with self._connected() as client:
            for left in reversed(range(_TRIES)):
                seen = await self._read(client)
                patch = decide(seen)
                try:
                    version = str(seen["metadata"]["resourceVersion"])
                    await client.patch_custom(self._resource, self._named, patch, expected=version)
                    return
                except Moved:
                    if not left:
                        raise

    async def _read(self, client: Kubernetes) -> Document:
        try:
            seen = await client.custom(self._resource, self._named)
        except KubernetesRefused as error:
            if error.status != 404:
                raise
            raise TargetError(f"{self.name}: there is none; correct the inventory, or install its CRD") from None
        metadata = seen.get("metadata")
        whole = isinstance(metadata, dict) and {"uid", "resourceVersion"} <= set(metadata)
        if not whole or not isinstance(seen.get("spec"), dict):
            raise BadAnswer(f"{self.name}: the API server told something that is none")
        return seen

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[Kubernetes]:
        try:
            client = Kubernetes(access(self._endpoint))
        except ConfigurationError as error:
            raise TargetError(f"the cluster cannot be asked: {error}") from None
        try:
            yield client
        finally:
            await client.aclose()


def uid(seen: Document) -> str:
    """Which incarnation it is."""
    return str(seen["metadata"]["uid"])


def maker(seen: Document) -> str | None:
    """What made this object itself, and may put back what is changed on it; None if nothing says so."""
    metadata = seen["metadata"]
    for owner in metadata.get("ownerReferences") or ():
        return f"{owner.get('kind')} {owner.get('name')}"
    marks = {**(metadata.get("labels") or {}), **(metadata.get("annotations") or {})}
    return next((str(marks[name]).partition(":")[0] for name in _MADE_BY if name in marks), None)


def held_by(seen: Document) -> str:
    """The remark about that, for the risk of a change."""
    made_by = maker(seen)
    return f" {made_by} made it and may put it back at once." if made_by else ""


def written_automated(application: Document) -> dict[str, Any] | None:
    """``spec.syncPolicy.automated`` as it is written; None if it is not."""
    found = (application["spec"].get("syncPolicy") or {}).get("automated")
    return None if found is None else dict(found)


def automated(application: Document) -> dict[str, Any] | None:
    """How it syncs by itself; None if it does not, which may also be written ``enabled: false``."""
    found = written_automated(application)
    return None if found is None or found.get("enabled") is False else found


def history(application: Document) -> list[dict[str, Any]]:
    """What it deployed, the newest first: ``id``, ``revision`` (or ``revisions``), ``source`` (or ``sources``)."""
    found = (application.get("status") or {}).get("history") or []
    whole = [dict(each) for each in found if isinstance(each.get("id"), int)]
    return sorted(whole, key=lambda each: -int(each["id"]))


def operations(application: Document) -> list[dict[str, Any]]:
    """The operation that is asked for, and the one that goes on or was the last."""
    state = (application.get("status") or {}).get("operationState") or {}
    return [dict(each) for each in (application.get("operation"), state.get("operation")) if each]


def busy(application: Document) -> bool:
    """Whether an operation is asked for or goes on."""
    state = (application.get("status") or {}).get("operationState") or {}
    return bool(application.get("operation")) or state.get("phase") in ("Running", "Terminating")
