"""Recorded revisions of a workload: their differences, and their rollbacks.

A Deployment keeps its revisions as ReplicaSets, a StatefulSet or DaemonSet as ControllerRevisions.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from remediator.clients.kubernetes.client import Kubernetes
from remediator.clients.kubernetes.kinds import WorkloadKind
from remediator.clients.kubernetes.models import ControllerRevision, Meta, Template, Workload

HASH = "pod-template-hash"
REVISION_HASH = "controller-revision-hash"
"""Label of the pods of a StatefulSet or DaemonSet: the revision that they are made from."""
HISTORY = "deployment.kubernetes.io/revision-history"
"""Annotation of a ReplicaSet that was restored by an undo: its earlier revisions."""
UNDONE = "remediator.undone"
"""Annotation of a workload: digests of the templates of releases that were rolled back.

The controller copies it to the revisions. It is read there too, because ``kubectl rollout undo`` replaces the
annotation of a Deployment.
"""
RESTARTED_AT = "kubectl.kubernetes.io/restartedAt"
CHANGE_CAUSE = "kubernetes.io/change-cause"
VERSION = "app.kubernetes.io/version"
_REMEMBERED = 50


@dataclass(frozen=True, slots=True)
class Revision:
    """One recorded revision. Its number is higher the later it was used; an undo gives it a new number."""

    meta: Meta
    number: int
    template: Template
    """The pod template, without secrets."""
    pod_label: tuple[str, str]
    """The label of the pods that are made from it."""

    @property
    def name(self) -> str:
        """The name of the ReplicaSet or ControllerRevision."""
        return self.meta.name


async def revisions_of(client: Kubernetes, kind: WorkloadKind, workload: Workload) -> tuple[Revision, ...]:
    """Return the revisions of a workload, the most recently used first."""
    selector = workload.spec.selector
    if kind is WorkloadKind.DEPLOYMENT:
        found = [of_replica_set(each) for each in await client.workloads("replicasets", selector)]
    else:
        found = [of_controller_revision(kind, each) for each in await client.controller_revisions(selector)]
    mine = [each for each in found if (owner := each.meta.controller) and owner.uid == workload.metadata.uid]
    return tuple(sorted(mine, key=lambda each: -each.number))


def of_replica_set(found: Workload) -> Revision:
    """Return the revision that a ReplicaSet keeps."""
    label = HASH, found.metadata.labels.get(HASH, "")
    return Revision(found.metadata, found.revision or 0, found.spec.template, label)


def of_controller_revision(kind: WorkloadKind, found: ControllerRevision) -> Revision:
    """Return the revision that a ControllerRevision keeps."""
    meta = found.metadata
    # the label of a StatefulSet pod is the whole name of the revision; the label of a DaemonSet pod is only its hash
    value = meta.name if kind is WorkloadKind.STATEFUL_SET else meta.labels.get(REVISION_HASH, "")
    return Revision(meta, found.revision, found.data.spec.template, (REVISION_HASH, value))


def current(kind: WorkloadKind, workload: Workload, revisions: Sequence[Revision]) -> Revision | None:
    """Return the current revision of a workload; None before the controller has observed the last change.

    Until then, the controller has not recorded the new revision, and the newest recorded one may be the one before.

    Args:
        kind: the kind of the workload.
        workload: the workload.
        revisions: its revisions, the most recently used first.
    """
    if not workload.observed:
        return None
    if kind is WorkloadKind.DEPLOYMENT:
        return next((each for each in revisions if each.number == workload.revision), None)
    return next(iter(revisions), None)


async def template_of(client: Kubernetes, kind: WorkloadKind, name: str) -> dict[str, Any]:
    """Return the template of a revision without the label that a Deployment added."""
    template = dict(await client.template(kind.history, name))
    metadata = dict(template.get("metadata") or {})
    metadata["labels"] = {name: value for name, value in (metadata.get("labels") or {}).items() if name != HASH}
    return {**template, "metadata": metadata}


def digest(template: Mapping[str, Any]) -> str:
    """Return 32 characters that are equal for templates which differ only in the time of the last restart."""
    metadata = template.get("metadata") or {}
    annotations = {key: value for key, value in (metadata.get("annotations") or {}).items() if key != RESTARTED_AT}
    labels = {key: value for key, value in (metadata.get("labels") or {}).items() if key != HASH}
    compared = {**template, "metadata": {"labels": labels, "annotations": annotations}}
    return hashlib.sha256(json.dumps(compared, sort_keys=True).encode()).hexdigest()[:32]


def rolled_back(workload: Workload, revisions: Sequence[Revision]) -> list[str]:
    """Return the digests of the releases that were rolled back, the oldest first."""
    metas = [each.meta for each in reversed(revisions)] + [workload.metadata]
    found = [each.annotations.get(UNDONE, "") for each in metas]
    return list(dict.fromkeys(digest for text in found for digest in text.split(",") if digest))


def with_rolled_back(workload: Workload, revisions: Sequence[Revision], left: str, to: str) -> dict[str, str]:
    """Return the annotations of the workload, with the release ``left`` recorded as rolled back.

    It is not recorded if ``to`` was rolled back before, because then ``left`` may be good.
    """
    undone = rolled_back(workload, revisions)
    if to not in undone:
        undone = [*(each for each in undone if each != left), left]
    return {**workload.metadata.annotations, UNDONE: ",".join(undone[-_REMEMBERED:])}


def bad_names(
    workload: Workload, revisions: Sequence[Revision], templates: Mapping[str, Mapping[str, Any]]
) -> frozenset[str]:
    """Return the names of the revisions that a rollback must not choose.

    The annotation records rollbacks by the remediator. A rollback by a person shows only in the history of the
    restored revision: Kubernetes gave it a new, higher number. Each revision between its earlier numbers and the new
    one was rolled back. A revision that is recorded as rolled back is no evidence, because it came back with a new
    deployment.
    """
    undone = set(rolled_back(workload, revisions))
    recorded = {name for name, template in templates.items() if digest(template) in undone}
    trusted = [each for each in revisions if each.name not in recorded]
    passed = {each.name for each in revisions for other in trusted if _went_back(each, other)}
    return frozenset(recorded | passed)


def _went_back(each: Revision, other: Revision) -> bool:
    """Return whether ``other`` was in use before ``each`` and came back after it."""
    if HISTORY in other.meta.annotations:  # of a ReplicaSet
        before = [int(text) for text in other.meta.annotations[HISTORY].split(",") if text.isdigit()]
        return bool(before) and min(before) < each.number < other.number
    born, others = each.meta.creation_timestamp, other.meta.creation_timestamp
    return each.number < other.number and born is not None and others is not None and others < born


def title(revision: Revision) -> str:
    """Return a revision as people know it: images, version, number of the revision and its change cause."""
    template, annotations = revision.template, revision.meta.annotations
    version, cause = template.metadata.labels.get(VERSION, ""), annotations.get(CHANGE_CAUSE, "")
    parts = [
        ", ".join(container.image for container in template.spec.containers),
        f"version {version}" if version else "",
        f"revision {revision.number}",
        f"({cause})" if cause else "",
    ]
    return " ".join(part for part in parts if part)
