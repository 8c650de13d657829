"""Why pods do not serve, as typed facts: one failure for each container that fails, and for each pod that cannot start.

The most specific reason of a container counts. It comes from the status of the pod, and for probes and volumes from its
events. Events expire after about an hour.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from remediator.clients.kubernetes.models import ContainerStatus, Event, Pod
from remediator.clients.kubernetes.pods import loops, out_of_memory, stuck, unscheduled
from remediator.extensions.platforms.base import Reason

_CONFIGURATION = ("CreateContainerConfigError",)
_CANNOT_START = ("CreateContainerError", "RunContainerError", "ContainerCannotRun", "StartError")
_VOLUMES = ("FailedMount", "FailedAttachVolume")
_NOT_BEGUN = ("ContainerCreating", "PodInitializing")


@dataclass(frozen=True, slots=True)
class Failure:
    """One reason why a pod does not serve."""

    reason: Reason
    pod: str
    message: str
    """In the words of Kubernetes."""
    container: str = ""
    """Empty if the pod as a whole cannot start."""
    init: bool = False
    restarts: int = 0
    exit_code: int | None = None

    def facts(self) -> dict[str, Any]:
        """Return it as facts for conditions."""
        return {
            "reason": self.reason.value,
            "pod": self.pod,
            "container": self.container,
            "init": self.init,
            "restarts": self.restarts,
            "exit_code": self.exit_code,
            "message": self.message[:500],
        }


def failures(pod: Pod, events: Sequence[Event], now: datetime) -> list[Failure]:
    """Return the reasons why a pod does not serve; empty if it serves, or has only begun to start.

    Args:
        pod: the pod.
        events: the events of the pod; without events, the state of probes and volumes is unknown.
        now: the current time.
    """
    mine = [each for each in events if each.involved_object.uid in ("", pod.metadata.uid)]
    mine = [each for each in mine if each.involved_object.name == pod.metadata.name]
    return [*_of_pod(pod, mine), *_of_containers(pod, mine, now)]


def _of_pod(pod: Pod, events: Sequence[Event]) -> Iterator[Failure]:
    name = pod.metadata.name
    if unscheduled(pod):
        messages = (each.message for each in pod.status.conditions if each.type == "PodScheduled")
        yield Failure(Reason.NOT_SCHEDULED, name, next(messages))
    statuses = (*pod.status.init_container_statuses, *pod.status.container_statuses)
    waits = any(each.state.waiting is not None and each.state.waiting.reason in _NOT_BEGUN for each in statuses)
    mounts = [each for each in events if each.reason in _VOLUMES]
    if waits and mounts and not any(each.state.running or each.state.terminated for each in statuses):
        yield Failure(Reason.VOLUME_NOT_MOUNTED, name, mounts[-1].message)


def _of_containers(pod: Pod, events: Sequence[Event], now: datetime) -> Iterator[Failure]:
    for init, statuses in ((True, pod.status.init_container_statuses), (False, pod.status.container_statuses)):
        for status in statuses:
            field = f"spec.{'initContainers' if init else 'containers'}{{{status.name}}}"
            about = [each for each in events if each.involved_object.field_path == field]
            if (found := _why(pod, status, about, now, init=init)) is not None:
                reason, message = found
                last = status.state.terminated or status.last_state.terminated
                code = None if last is None else last.exit_code
                yield Failure(reason, pod.metadata.name, message, status.name, init, status.restart_count, code)


def _why(
    pod: Pod, status: ContainerStatus, events: Sequence[Event], now: datetime, *, init: bool
) -> tuple[Reason, str] | None:
    """Return the most specific reason why a container fails; None if it does not, or if it is not known yet."""
    waiting, last = status.state.waiting, status.state.terminated or status.last_state.terminated
    says = "" if waiting is None else waiting.message or waiting.reason
    ended = "" if last is None else f"exit code {last.exit_code} {last.reason} {last.message}".strip()
    if out_of_memory(status):
        return Reason.OUT_OF_MEMORY, ended
    if stuck(status):
        return Reason.IMAGE_NOT_PULLED, says
    if waiting is not None and waiting.reason in _CONFIGURATION:
        return Reason.CONFIGURATION_MISSING, says
    if (waiting is not None and waiting.reason in _CANNOT_START) or (last is not None and last.reason in _CANNOT_START):
        return Reason.CANNOT_START, says if last is None or last.reason not in _CANNOT_START else ended
    if last is not None and (not status.ready or loops(status, now)):
        if killed := [each for each in events if each.reason == "Killing" and " probe" in each.message]:
            probes = [each for each in events if each.reason == "Unhealthy"] or killed
            return Reason.LIVENESS_FAILED, probes[-1].message
        if last.exit_code != 0 or loops(status, now):
            return (Reason.INIT_FAILED if init else Reason.CRASHED), ended
    return None if init else _unready(pod, status, events, now)


def _unready(pod: Pod, status: ContainerStatus, events: Sequence[Event], now: datetime) -> tuple[Reason, str] | None:
    """Return whether a container runs and its readiness probe fails, by an event or because its time is over."""
    running = status.state.running
    spec = next((each for each in pod.spec.containers if each.name == status.name), None)
    if status.ready or running is None or running.started_at is None or spec is None or spec.readiness_probe is None:
        return None
    failed = [each for each in events if each.reason == "Unhealthy" and each.message.startswith("Readiness")]
    if failed and (at := failed[-1].at) is not None and at >= running.started_at:
        return Reason.READINESS_FAILED, failed[-1].message
    if now - running.started_at > timedelta(seconds=spec.readiness_probe.grace):
        return Reason.READINESS_FAILED, f"not ready since its start at {running.started_at:%H:%M:%S} UTC"
    return None
