"""The status of a service on Kubernetes, from its workload and pods."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from remediator.clients.kubernetes.kinds import WorkloadKind
from remediator.clients.kubernetes.models import Event, Pod, Workload
from remediator.clients.kubernetes.owner import why_not_scaled
from remediator.clients.kubernetes.pods import containers, explaining, loops, pod_facts, stuck, troubles
from remediator.clients.kubernetes.revisions import Revision, current
from remediator.core.clock import rfc3339
from remediator.extensions.platforms._kubernetes_failures import Failure, failures
from remediator.extensions.platforms.base import Reason, ServiceStatus, State

_MOST_EVENTS = 10
_PROGRESS = timedelta(minutes=10)
"""How long a new pod of a StatefulSet or DaemonSet may take to become ready: the default deadline of a Deployment."""


@dataclass(frozen=True, slots=True)
class Rollout:
    """A workload with its revisions, the most recently used first, and its pods."""

    kind: WorkloadKind
    workload: Workload
    revisions: tuple[Revision, ...]
    pods: tuple[Pod, ...]

    @property
    def name(self) -> str:
        """The name of the workload."""
        return self.workload.metadata.name

    @property
    def wanted(self) -> int:
        """How many pods it should have. The number of a DaemonSet follows from the nodes."""
        if self.kind is WorkloadKind.DAEMON_SET:
            return self.workload.status.desired_number_scheduled
        return self.workload.spec.replicas

    @property
    def current(self) -> Revision | None:
        """The current revision; None before the controller has recorded it."""
        return current(self.kind, self.workload, self.revisions)

    @property
    def newest(self) -> tuple[Pod, ...]:
        """The pods of the newest rollout."""
        if (revision := self.current) is None:
            return ()
        label, value = revision.pod_label
        return tuple(pod for pod in self.pods if value and pod.metadata.labels.get(label) == value)

    @property
    def renewed(self) -> int:
        """Number of pods that a rollout replaces.

        Its strategy can exclude pods: OnDelete all, a partition the first pods.
        """
        strategy = self.workload.spec.update_strategy
        if self.kind is WorkloadKind.DEPLOYMENT:
            return self.wanted
        if strategy.type == "OnDelete":
            return 0
        return max(self.wanted - (strategy.rolling_update.partition or 0), 0)


def rollout_status(look: Rollout, owner: Any, events: Sequence[Event], hold: str, now: datetime) -> ServiceStatus:
    """Return the status of a workload, with its pods and the reasons why they are not ready."""
    workload, wanted = look.workload, look.wanted
    ready = sum(pod.ready for pod in look.pods)
    found = tuple(_failures(look, events, now))
    problems = [text for pod in look.pods for text in troubles(pod)] + explaining(events)
    if look.kind is WorkloadKind.DAEMON_SET and workload.observed and wanted == 0:
        problems.append("no node fits its node selector and tolerations")
    started = [pod.status.start_time for pod in look.pods if pod.status.start_time is not None]
    rollout = "" if workload.observed else ", the last change is not yet observed"
    summary = f"{look.name}: {ready} of {wanted} pods ready{rollout}"
    scaled_by = why_not_scaled(owner) if isinstance(owner, dict) and owner["kind"] == "hpa" else ""
    revision = look.current
    return ServiceStatus(
        state=_state(look, ready, now),
        summary="; ".join([*problems[:3], summary, *([hold] if hold else [])]),  # lists show only the first line
        instances=wanted,
        healthy=ready,
        pin={"uid": workload.metadata.uid, "generation": workload.metadata.generation},
        started_at=max(started, default=None),
        facts={
            "kind": look.kind.value,
            "replicas": wanted,
            "revision": workload.revision if look.kind is WorkloadKind.DEPLOYMENT else revision and revision.number,
            "observed": workload.observed,
            "updated": len(look.newest),
            "pods": [pod_facts(pod) for pod in look.pods[:20]],
            "failures": [each.facts() for each in found[:20]],
            "conditions": {each.type: f"{each.status} {each.reason}".strip() for each in workload.status.conditions},
            "events": [_event_text(each) for each in events if each.type == "Warning"][-_MOST_EVENTS:],
            "claims": sorted({claim for pod in look.pods for claim in pod.spec.claims}),
            "owner": owner,
            "paused": workload.spec.paused,
        },
        lives={
            f"{pod.metadata.name}/{each.name}": f"{pod.metadata.uid} {each.restart_count}"
            for pod in look.pods
            for each in containers(pod)
        },
        reasons=tuple(_reasons(look, found)),
        scaled_by=scaled_by,
        hold=hold,
    )


def _failures(look: Rollout, events: Sequence[Event], now: datetime) -> Iterator[Failure]:
    """Yield why pods of the newest rollout do not serve, and why pods are not created."""
    for pod in look.newest:
        yield from failures(pod, events, now)
    refused = [each for each in events if each.reason == "FailedCreate"]
    if refused and len(look.newest) < look.renewed:
        yield Failure(Reason.NOT_CREATED, "", refused[-1].message)


def _reasons(look: Rollout, found: Sequence[Failure]) -> Iterator[Reason]:
    """Yield each reason once, in the order of their definition."""
    present = {each.reason for each in found}
    if any(each.init for each in found):
        present.add(Reason.INIT_FAILED)
    if look.workload.spec.paused:
        present.add(Reason.PAUSED)
    yield from (reason for reason in Reason if reason in present)


def _event_text(event: Event) -> str:
    times = f"{event.count} times, " if event.count and event.count > 1 else ""
    last = "" if event.at is None else f"last at {rfc3339(event.at)[:19]}Z"
    about = f"{event.involved_object.kind} {event.involved_object.name}"
    return f"{event.reason}: {event.message[:300]} ({about}, {times}{last})"


def _state(look: Rollout, ready: int, now: datetime) -> State:
    workload, wanted = look.workload, look.wanted
    if not workload.observed:
        return State.STARTING
    if wanted == 0:
        return State.STOPPED
    if any(loops(each, now) for pod in look.newest for each in containers(pod)):
        return State.CRASH_LOOP
    updated = workload.status.updated_replicas if look.kind is WorkloadKind.DEPLOYMENT else len(look.newest)
    if updated < look.renewed or workload.status.replicas > wanted:
        return State.STARTING if _progresses(look, now) else State.MIXED
    if ready >= wanted and (look.kind is not WorkloadKind.DEPLOYMENT or workload.status.available_replicas >= wanted):
        return State.RUNNING
    if not _progresses(look, now) or any(stuck(each) for pod in look.newest for each in containers(pod)):
        return State.MIXED if ready else State.EXITED
    return State.STARTING


def _progresses(look: Rollout, now: datetime) -> bool:
    if look.kind is WorkloadKind.DEPLOYMENT:
        progressing = look.workload.condition("Progressing")
        return progressing is None or progressing.status != "False"
    waiting = (pod.metadata.creation_timestamp for pod in look.newest if not pod.ready)
    return not any(born is not None and now - born > _PROGRESS for born in waiting)
