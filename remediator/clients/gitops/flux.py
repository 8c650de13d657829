"""Deployed revisions of Flux and how to pin its sources: pure functions on the objects of the API server.

Since Flux 2.7, a Kustomization lists its last five applied revisions in ``status.history``. Older versions report only
the last applied and the last attempted revision. A source follows a branch, tag or range. ``spec.ref.commit`` of a
GitRepository and ``spec.ref.digest`` of an OCIRepository override these and pin the source to one revision.
Reference: the API documentation of kustomize-controller and source-controller.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from remediator.clients.gitops.client import Kind, Managed
from remediator.clients.kubernetes.models import Document
from remediator.core.release import Release
from remediator.errors import TargetError

HOLDS: Mapping[Kind, str] = {"GitRepository": "commit", "OCIRepository": "digest"}
"""For each kind of source, the field of ``spec.ref`` that pins it to one revision."""
_APPLIED = "ReconciliationSucceeded"


def source(managed: Managed, seen: Document) -> Managed:
    """Return the source of a Kustomization.

    Raises:
        TargetError: the object is not a Kustomization, or its source cannot be pinned.
    """
    if managed.kind != "Kustomization":
        raise TargetError(
            f"{managed.name}: only a Kustomization records the revisions that a rollback needs; "
            "suspend it with flux.suspend and use service.rollback"
        )
    found = seen["spec"].get("sourceRef") or {}
    kind = next((each for each in HOLDS if each == found.get("kind")), None)
    if kind is None or not found.get("name"):
        given = found.get("kind") or "none"
        raise TargetError(f"{managed.name}: unsupported source kind {given}: expected {' or '.join(HOLDS)}")
    return managed.beside(kind, str(found["name"]), found.get("namespace"))


def held(source: Managed, seen: Document) -> str | None:
    """Return the commit or digest that the source is pinned to, or None."""
    found = reference(seen).get(HOLDS[source.kind])
    return str(found) if found else None


def reference(seen: Document) -> dict[str, Any]:
    """Return ``spec.ref`` of a source."""
    return dict(seen["spec"].get("ref") or {})


def attempted(kustomization: Document) -> str | None:
    """Return the revision that is applied, or attempted."""
    status = kustomization.get("status") or {}
    found = status.get("lastAttemptedRevision") or status.get("lastAppliedRevision")
    return str(found) if found else None


def releases(kind: Kind, kustomization: Document, current: str) -> list[Release]:
    """Return the current revision, and the other successfully applied ones, the newest first, each once.

    Args:
        kind: of the source.
        kustomization: the object.
        current: the revision that is applied, or attempted.
    """
    status = kustomization.get("status") or {}
    history = [each for each in status.get("history") or () if each.get("lastReconciledStatus") == _APPLIED]
    told = [((each.get("metadata") or {}).get("revision"), each.get("firstReconciled")) for each in history]
    times: dict[str, datetime | None] = {current: None}
    for revision, at in (*told, (status.get("lastAppliedRevision"), None)):
        if revision and times.get(str(revision)) is None:
            times[str(revision)] = None if at is None else datetime.fromisoformat(str(at))
    return [
        Release(
            id=revision,
            created_at=at,
            current=revision == current,
            identity=point(kind, revision),
            name=short(revision),
        )
        for revision, at in times.items()
    ]


def short(revision: str) -> str:
    """Return a revision for people: ``main@sha1:<commit>`` with 12 characters of the commit or digest."""
    head, colon, value = revision.rpartition(":")
    return f"{head}{colon}{value[:12]}"


def point(kind: str, revision: str) -> str:
    """Return the commit or digest of a revision such as ``main@sha1:<commit>``, to pin a source to it.

    Raises:
        TargetError: the revision has an unknown format.
    """
    algorithm, colon, value = revision.rpartition("@")[2].partition(":")
    if not colon or not value or not value.isalnum():
        raise TargetError(f"unknown format of revision {revision[:100]!r}: expected for example main@sha1:<commit>")
    return value if kind == "GitRepository" else f"{algorithm}:{value}"
