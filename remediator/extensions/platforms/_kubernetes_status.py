"""The status of a service on Kubernetes, from its Deployment and pods."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from remediator.clients.kubernetes import revisions
from remediator.clients.kubernetes.models import Event, Pod, Workload
from remediator.clients.kubernetes.pods import (
    containers,
    explaining,
    loops,
    out_of_memory,
    pod_facts,
    stuck,
    troubles,
    unscheduled,
)
from remediator.extensions.platforms.base import Reason, ServiceStatus, State

_MOST_EVENTS = 10


@dataclass(frozen=True, slots=True)
class Rollout:
    """A Deployment with its ReplicaSets and pods."""

    deployment: Workload
    sets: tuple[Workload, ...]
    pods: tuple[Pod, ...]

    @property
    def newest(self) -> tuple[Pod, ...]:
        """The pods of the newest rollout."""
        current = revisions.current(self.deployment, self.sets)
        hash_ = None if current is None else current.metadata.labels.get(revisions.HASH)
        return tuple(pod for pod in self.pods if hash_ and pod.metadata.labels.get(revisions.HASH) == hash_)


def rollout_status(look: Rollout, owner: Any, events: Sequence[Event], hold: str, now: datetime) -> ServiceStatus:
    """Return the status of a Deployment, with its pods and what explains that they are not ready."""
    deployment, wanted = look.deployment, look.deployment.spec.replicas
    ready = sum(pod.ready for pod in look.pods)
    state = _state(look, ready, now)
    problems = [text for pod in look.pods for text in troubles(pod)] + explaining(events)
    started = [pod.status.start_time for pod in look.pods if pod.status.start_time is not None]
    rollout = "" if deployment.observed else ", the last change is not yet observed"
    summary = f"{deployment.metadata.name}: {ready} of {wanted} pods ready{rollout}"
    return ServiceStatus(
        state=state,
        summary="; ".join([*problems[:3], summary, *([hold] if hold else [])]),  # lists show only the first line
        instances=wanted,
        healthy=ready,
        pin={"uid": deployment.metadata.uid, "generation": deployment.metadata.generation},
        started_at=max(started, default=None),
        facts={
            "replicas": wanted,
            "revision": deployment.revision,
            "observed": deployment.observed,
            "pods": [pod_facts(pod) for pod in look.pods[:20]],
            "conditions": {each.type: f"{each.status} {each.reason}".strip() for each in deployment.status.conditions},
            "events": [f"{each.reason}: {each.message}"[:300] for each in events][-_MOST_EVENTS:],
            "owner": owner,
            "paused": deployment.spec.paused,
        },
        lives={
            f"{pod.metadata.name}/{each.name}": f"{pod.metadata.uid} {each.restart_count}"
            for pod in look.pods
            for each in containers(pod)
        },
        reasons=tuple(_reasons(look)),
        hold=hold,
    )


def _reasons(look: Rollout) -> Iterator[Reason]:
    """Yield why pods of the newest rollout do not serve, each reason once."""
    pods = look.newest
    if any(out_of_memory(each) for pod in pods for each in containers(pod)):
        yield Reason.OUT_OF_MEMORY
    if any(stuck(each) for pod in pods for each in containers(pod)):
        yield Reason.IMAGE_NOT_PULLED
    if any(unscheduled(pod) for pod in pods):
        yield Reason.NOT_SCHEDULED
    if look.deployment.spec.paused:
        yield Reason.PAUSED


def _state(look: Rollout, ready: int, now: datetime) -> State:
    deployment = look.deployment
    wanted = deployment.spec.replicas
    if not deployment.observed:
        return State.STARTING
    if wanted == 0:
        return State.STOPPED
    if any(loops(each, now) for pod in look.newest for each in containers(pod)):
        return State.CRASH_LOOP
    status = deployment.status
    if status.updated_replicas < wanted or status.replicas > wanted:
        return State.STARTING if _progresses(deployment) else State.MIXED
    if status.available_replicas >= wanted and ready >= wanted:
        return State.RUNNING
    if not _progresses(deployment) or any(stuck(each) for pod in look.newest for each in containers(pod)):
        return State.MIXED if ready else State.EXITED
    return State.STARTING


def _progresses(deployment: Workload) -> bool:
    progressing = deployment.condition("Progressing")
    return progressing is None or progressing.status != "False"
