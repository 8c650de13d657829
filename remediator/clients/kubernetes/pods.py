"""The reasons why the containers of a pod do not run, as text and as facts."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from remediator.clients.kubernetes.models import Condition, ContainerStatus, Event, Pod, Resources
from remediator.core.clock import rfc3339

_LOOPS = ("CrashLoopBackOff", "RunContainerError", "CreateContainerError", "CreateContainerConfigError")
_EXPLAIN = ("Unhealthy", "FailedMount", "FailedAttachVolume", "FailedCreate", "FailedCreatePodSandBox", "Evicted")
"""Reasons of events whose message is not in the status of a pod: probes, volumes, quotas."""
_CALM = timedelta(minutes=1)
"""A container that has run for longer is not in a crash loop, regardless of its number of restarts."""
_STUCK = ("ImagePullBackOff", "ErrImagePull", "ErrImageNeverPull", "InvalidImageName")


def containers(pod: Pod) -> tuple[ContainerStatus, ...]:
    """Return all containers of a pod, init containers first."""
    return (*pod.status.init_container_statuses, *pod.status.container_statuses)


def loops(container: ContainerStatus, now: datetime) -> bool:
    """Return whether the container is in a crash loop: it waits for the next start, has ended, or runs between two."""
    waiting, ended = container.state.waiting, container.state.terminated or container.last_state.terminated
    if waiting is not None and waiting.reason in _LOOPS:
        return True
    if container.restart_count < 2 or ended is None:
        return False
    if not container.ready:
        return True
    # a ready container loops if it has run for a short time, and did before its last restart
    running, before = container.state.running, container.last_state.terminated
    if running is None or before is None:
        return False
    lives = (running.started_at, now), (before.started_at, before.finished_at)
    return all(begun is not None and end is not None and end - begun < _CALM for begun, end in lives)


def stuck(container: ContainerStatus) -> bool:
    """Return whether the container's image cannot be pulled."""
    return container.state.waiting is not None and container.state.waiting.reason in _STUCK


def out_of_memory(container: ContainerStatus) -> bool:
    """Return whether the container does not serve because it was killed at its memory limit."""
    last = container.state.terminated or container.last_state.terminated
    return not container.ready and last is not None and last.reason == "OOMKilled"


def unscheduled(pod: Pod) -> bool:
    """Return whether no node takes the pod."""
    return any(_unscheduled(each) for each in pod.status.conditions)


def troubles(pod: Pod) -> list[str]:
    """Return why a pod does not serve: not scheduled, or a text for each unhealthy container with its last exit."""
    name = pod.metadata.name
    waits = [f"{name}: not scheduled: {each.message}" for each in pod.status.conditions if _unscheduled(each)]
    return waits or [text for each in containers(pod) if (text := _trouble(pod, each))]


def _unscheduled(condition: Condition) -> bool:
    return (condition.type, condition.status, condition.reason) == ("PodScheduled", "False", "Unschedulable")


def _trouble(pod: Pod, container: ContainerStatus) -> str:
    waiting, last = container.state.waiting, container.last_state.terminated or container.state.terminated
    if container.ready or (waiting is None and last is None) or (last is not None and last.reason == "Completed"):
        return ""
    where = f"{pod.metadata.name}/{container.name}"
    text = f"{where}: {waiting.reason}" if waiting is not None and waiting.reason else f"{where}: not ready"
    if waiting is not None and waiting.message and waiting.reason not in _LOOPS[:1]:
        text += f" ({waiting.message[:300]})"
    if last is not None:
        reason = f" {last.reason}" if last.reason else ""
        text += f", ended with exit code {last.exit_code}{reason}, {container.restart_count} restarts"
    if out_of_memory(container) and (limit := _resources(pod, container.name).limits.get("memory", "")):
        text += f", memory limit {limit}"
    return text


def _resources(pod: Pod, container: str) -> Resources:
    specs = (*pod.spec.init_containers, *pod.spec.containers)
    return next((each.resources for each in specs if each.name == container), Resources())


def explaining(events: Sequence[Event]) -> list[str]:
    """Return the warnings that explain why a pod is not created or not ready, the newest of each reason."""
    newest = {each.reason: each for each in events if each.type == "Warning" and each.reason in _EXPLAIN}
    return [f"{each.reason}: {each.message}"[:300] for each in newest.values()]


def pod_facts(pod: Pod) -> dict[str, Any]:
    """Return the facts of a pod for display, as ``kubectl describe`` shows them, without secrets."""
    return {
        "name": pod.metadata.name,
        "phase": pod.status.phase,
        "ready": pod.ready,
        "node": pod.spec.node_name,
        "created_at": _time(pod.metadata.creation_timestamp),
        "claims": list(pod.spec.claims),
        "conditions": {
            each.type: f"{each.status} {each.reason}: {each.message}".strip(": ")[:300]
            for each in pod.status.conditions
            if each.status != "True"
        },
        "containers": [
            _container_facts(pod, each, init=each in pod.status.init_container_statuses) for each in containers(pod)
        ],
    }


def _container_facts(pod: Pod, container: ContainerStatus, *, init: bool) -> dict[str, Any]:
    waiting, running = container.state.waiting, container.state.running
    ended = container.last_state.terminated or container.state.terminated
    last = ended and {"exit_code": ended.exit_code, "reason": ended.reason, "finished_at": _time(ended.finished_at)}
    resources = _resources(pod, container.name)
    return {
        "name": container.name,
        "init": init,
        "image": container.image,
        "ready": container.ready,
        "restarts": container.restart_count,
        "requests": resources.requests,
        "limits": resources.limits,
        "memory_limit": resources.limits.get("memory"),
        "waiting": None if waiting is None else waiting.reason,
        "running_since": None if running is None else _time(running.started_at),
        "last": last,
    }


def _time(instant: datetime | None) -> str | None:
    return None if instant is None else rfc3339(instant)
