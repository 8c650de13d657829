"""What Flux has deployed, and where its source can be held: pure functions on its objects as the API server has them.

A Kustomization tells the revisions that it applied in ``status.history`` (five, since Flux 2.7); older ones tell the
last that was applied and the last that was attempted. A source follows a branch, tag or range; ``spec.ref.commit`` of a
GitRepository and ``spec.ref.digest`` of an OCIRepository come before all of these and hold it at one revision.
Source: the API references of kustomize-controller and source-controller.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from remediator.clients.gitops.client import Kind, Managed
from remediator.clients.kubernetes.models import Document
from remediator.errors import TargetError

HOLDS: Mapping[Kind, str] = {"GitRepository": "commit", "OCIRepository": "digest"}
"""By kind of source, the field of ``spec.ref`` that holds it at one revision."""
_APPLIED = "ReconciliationSucceeded"


def source(managed: Managed, seen: Document) -> Managed:
    """Where a Kustomization takes its manifests from.

    Raises:
        TargetError: it is no Kustomization, or its source is of a kind that cannot be held.
    """
    if managed.kind != "Kustomization":
        raise TargetError(
            f"{managed.name}: only a Kustomization records what it applied well enough to go back to; "
            "suspend this one (flux.suspend) and use service.rollback"
        )
    found = seen["spec"].get("sourceRef") or {}
    kind = next((each for each in HOLDS if each == found.get("kind")), None)
    if kind is None or not found.get("name"):
        told = found.get("kind") or "source that it does not name"
        raise TargetError(f"{managed.name} is made from a {told}; known: {', '.join(HOLDS)}")
    return managed.beside(kind, str(found["name"]), found.get("namespace"))


def held(source: Managed, seen: Document) -> str | None:
    """The commit or digest that the source is held at; None while it follows."""
    found = reference(seen).get(HOLDS[source.kind])
    return str(found) if found else None


def reference(seen: Document) -> dict[str, Any]:
    """``spec.ref`` of a source."""
    return dict(seen["spec"].get("ref") or {})


def attempted(kustomization: Document) -> str | None:
    """The revision that it applies, or tries to."""
    status = kustomization.get("status") or {}
    found = status.get("lastAttemptedRevision") or status.get("lastAppliedRevision")
    return str(found) if found else None


def applied(kustomization: Document) -> list[str]:
    """The revisions that it applied with success, the newest first, each once."""
    status = kustomization.get("status") or {}
    history = [each for each in status.get("history") or () if each.get("lastReconciledStatus") == _APPLIED]
    told = [(each.get("metadata") or {}).get("revision") for each in history]
    return list(dict.fromkeys(str(each) for each in (*told, status.get("lastAppliedRevision")) if each))


def point(kind: str, revision: str) -> str:
    """What holds a source at a revision, such as ``main@sha1:<commit>``: the commit, or the digest with its algorithm.

    Raises:
        TargetError: it is in none of the forms that Flux writes.
    """
    algorithm, colon, value = revision.rpartition("@")[2].partition(":")
    if not colon or not value or not value.isalnum():
        raise TargetError(f"revision {revision[:100]!r} is in no form that is known")
    return value if kind == "GitRepository" else f"{algorithm}:{value}"
