"""Recorded revisions of a Deployment: its ReplicaSets, what distinguishes them, and which of them were rolled back."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from remediator.clients.kubernetes.client import Kubernetes
from remediator.clients.kubernetes.models import Workload

HASH = "pod-template-hash"
HISTORY = "deployment.kubernetes.io/revision-history"
"""Annotation of a ReplicaSet that was restored by an undo: its earlier revisions."""
UNDONE = "remediator.undone"
"""Annotation of a Deployment: digests of the templates of releases that were rolled back.

The controller copies it to the ReplicaSets. It is read there too, because ``kubectl rollout undo`` replaces the
annotation of the Deployment.
"""
RESTARTED_AT = "kubectl.kubernetes.io/restartedAt"
CHANGE_CAUSE = "kubernetes.io/change-cause"
VERSION = "app.kubernetes.io/version"
_REMEMBERED = 50


def current(deployment: Workload, sets: Sequence[Workload]) -> Workload | None:
    """Return the ReplicaSet of the current revision of a Deployment; None before the controller has created it."""
    return next((each for each in sets if each.revision == deployment.revision), None)


async def template_of(client: Kubernetes, replica_set: Workload) -> dict[str, Any]:
    """Return the template of a ReplicaSet without the label that the Deployment added."""
    template = dict(await client.template("replicasets", replica_set.metadata.name))
    metadata = dict(template.get("metadata") or {})
    metadata["labels"] = {name: value for name, value in (metadata.get("labels") or {}).items() if name != HASH}
    return {**template, "metadata": metadata}


def _bare(template: Mapping[str, Any]) -> dict[str, Any]:
    metadata = template.get("metadata") or {}
    annotations = {key: value for key, value in (metadata.get("annotations") or {}).items() if key != RESTARTED_AT}
    labels = {key: value for key, value in (metadata.get("labels") or {}).items() if key != HASH}
    return {**template, "metadata": {"labels": labels, "annotations": annotations}}


def digest(template: Mapping[str, Any]) -> str:
    """Return 32 characters that are equal for templates which differ only in the time of the last restart."""
    return hashlib.sha256(json.dumps(_bare(template), sort_keys=True).encode()).hexdigest()[:32]


def rolled_back(deployment: Workload, sets: Sequence[Workload]) -> list[str]:
    """Return the digests of the releases that were rolled back, the oldest first."""
    found = [each.metadata.annotations.get(UNDONE, "") for each in (*reversed(sets), deployment)]
    return list(dict.fromkeys(digest for text in found for digest in text.split(",") if digest))


def with_rolled_back(deployment: Workload, sets: Sequence[Workload], left: str, to: str) -> dict[str, str]:
    """Return the annotations of the Deployment, with the release ``left`` recorded as rolled back.

    It is not recorded if ``to`` was rolled back before, because then ``left`` may be good.
    """
    undone = rolled_back(deployment, sets)
    if to not in undone:
        undone = [*(each for each in undone if each != left), left]
    return {**deployment.metadata.annotations, UNDONE: ",".join(undone[-_REMEMBERED:])}


def bad_names(
    deployment: Workload, sets: Sequence[Workload], templates: Mapping[str, Mapping[str, Any]]
) -> frozenset[str]:
    """Return the names of the ReplicaSets that a rollback must not choose.

    The annotation records rollbacks by the remediator. A rollback by a person shows only in the history of the
    restored ReplicaSet: it lists its earlier revisions, and Kubernetes gave it a new, higher revision. Each revision
    between those was rolled back. A ReplicaSet that is recorded as rolled back is no evidence, because it came back
    with a new deployment.
    """
    undone = set(rolled_back(deployment, sets))
    recorded = {name for name, template in templates.items() if digest(template) in undone}
    trusted = [each for each in sets if each.metadata.name not in recorded]
    passed = {each.metadata.name for each in sets for other in trusted if _went_back(each, other)}
    return frozenset(recorded | passed)


def _went_back(each: Workload, other: Workload) -> bool:
    """Return whether ``other`` was in use before ``each`` and came back after it."""
    before = [int(text) for text in other.metadata.annotations.get(HISTORY, "").split(",") if text.isdigit()]
    return bool(before) and min(before) < (each.revision or 0) < (other.revision or 0)


def title(replica_set: Workload) -> str:
    """Return a revision as people know it: images, version, number of the revision and its change cause."""
    template, annotations = replica_set.spec.template, replica_set.metadata.annotations
    version, cause = template.metadata.labels.get(VERSION, ""), annotations.get(CHANGE_CAUSE, "")
    parts = [
        ", ".join(container.image for container in template.spec.containers),
        f"version {version}" if version else "",
        f"revision {replica_set.revision}",
        f"({cause})" if cause else "",
    ]
    return " ".join(part for part in parts if part)
