"""The client explains a pod that is not ready with the messages of scheduler, image, configuration, probe or quota."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from remediator.clients.kubernetes.models import Event, Pod
from remediator.clients.kubernetes.pods import explaining, loops, troubles

NODES = "0/3 nodes are available: 3 Insufficient memory."


def pod(**status: Any) -> Pod:
    """Return a pod with this status."""
    return msgspec.convert({"metadata": {"name": "app-1"}, "status": status}, Pod)


def container(**state: Any) -> dict[str, Any]:
    """Return the status of one container."""
    return {"name": "main", "ready": False, "restartCount": 0, "image": "app:1", "state": state}


def test_a_pod_without_a_node_has_the_reason_of_the_scheduler() -> None:
    """For a pod without a node, the reason is that of the scheduler, because there is no container yet."""
    unscheduled = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": NODES}
    assert troubles(pod(conditions=[unscheduled])) == [f"app-1: not scheduled: {NODES}"]


@pytest.mark.parametrize(
    ("reason", "message"),
    [
        ("ErrImagePull", 'manifest for "app:2" not found'),
        ("CreateContainerConfigError", 'configmap "settings" not found'),
    ],
)
def test_a_waiting_container_has_the_reason_of_the_node(reason: str, message: str) -> None:
    """The reason names the container and the missing image or ConfigMap."""
    waiting = container(waiting={"reason": reason, "message": message})
    assert troubles(pod(containerStatuses=[waiting])) == [f"app-1/main: {reason} ({message})"]


@pytest.mark.parametrize(
    ("lives", "age", "before", "loops_now"),
    [
        (3, 5, 6, True),  # it ran for 6 s before, and now for 5 s: it ends again soon
        (1, 5, 6, False),  # one restart is not a loop
        (3, 90, 6, False),  # it has run for long enough
        (3, 5, 86_400, False),  # it ended once after a day
    ],
)
def test_a_container_that_runs_between_two_crashes_is_in_a_crash_loop(
    lives: int, age: int, before: int, loops_now: bool
) -> None:
    """A container that runs between two crashes is in a loop: without a probe, it is ready for some seconds."""
    now = datetime(2026, 11, 29, 12, tzinfo=UTC)
    begun = now - timedelta(seconds=age)
    ended = {"startedAt": begun - timedelta(seconds=before), "finishedAt": begun, "exitCode": 1, "reason": "Error"}
    runs = container(running={"startedAt": begun}) | {"ready": True, "restartCount": lives}
    [found] = pod(containerStatuses=[runs | {"lastState": {"terminated": ended}}]).status.container_statuses
    assert loops(found, now) is loops_now


def test_the_memory_limit_of_a_killed_container_is_named() -> None:
    """The reason has the memory limit, as the specification of the pod writes it."""
    killed = container(waiting={"reason": "CrashLoopBackOff"}) | {"restartCount": 2}
    killed["lastState"] = {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}
    spec = {"containers": [{"name": "main", "resources": {"limits": {"memory": "32Mi"}}}]}
    of = {"metadata": {"name": "app-1"}, "spec": spec, "status": {"containerStatuses": [killed]}}
    [text] = troubles(msgspec.convert(of, Pod))
    assert text.endswith("ended with exit code 137 OOMKilled, 2 restarts, memory limit 32Mi")


def test_an_init_container_that_fails_is_named() -> None:
    """The reason names the failed init container, and not the main container, which waits for it."""
    failed = {**container(waiting={"reason": "CrashLoopBackOff"}), "name": "migrate", "restartCount": 2}
    failed["lastState"] = {"terminated": {"exitCode": 3, "reason": "Error"}}
    assert troubles(pod(initContainerStatuses=[failed])) == [
        "app-1/migrate: CrashLoopBackOff, ended with exit code 3 Error, 2 restarts"
    ]


def test_probes_volumes_and_quotas_are_explained_by_events() -> None:
    """The explanation is the newest warning event of each relevant reason. Other warnings are ignored."""
    events = [
        {"type": "Warning", "reason": "Unhealthy", "message": "Readiness probe failed: 500"},
        {"type": "Warning", "reason": "Unhealthy", "message": "Readiness probe failed: 503"},
        {"type": "Warning", "reason": "FailedCreate", "message": "exceeded quota"},
        {"type": "Warning", "reason": "MissingClusterDNS", "message": "no DNS"},
        {"type": "Normal", "reason": "Pulled", "message": "pulled"},
    ]
    about = {"metadata": {"name": "event"}, "involvedObject": {"kind": "Pod", "name": "app-1"}}
    found = msgspec.convert([{**about, **each} for each in events], list[Event])
    assert explaining(found) == [
        "Unhealthy: Readiness probe failed: 503",
        "FailedCreate: exceeded quota",
    ]
