"""Why a pod does not serve, in the words of the API server: scheduler, image, configuration, probe, quota."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from remediator.clients.kubernetes.models import Event, Pod
from remediator.clients.kubernetes.pods import explaining, troubles

NODES = "0/3 nodes are available: 3 Insufficient memory."


def pod(**status: Any) -> Pod:
    """A pod with this status."""
    return msgspec.convert({"metadata": {"name": "app-1"}, "status": status}, Pod)


def container(**state: Any) -> dict[str, Any]:
    """The status of one container."""
    return {"name": "main", "ready": False, "restartCount": 0, "image": "app:1", "state": state}


def test_a_pod_without_a_node_has_the_words_of_the_scheduler() -> None:
    """It has no containers yet, so nothing else says why."""
    unscheduled = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": NODES}
    assert troubles(pod(conditions=[unscheduled])) == [f"app-1: not scheduled: {NODES}"]


@pytest.mark.parametrize(
    ("reason", "message"),
    [
        ("ErrImagePull", 'manifest for "app:2" not found'),
        ("CreateContainerConfigError", 'configmap "settings" not found'),
    ],
)
def test_a_container_that_waits_has_the_words_of_the_node(reason: str, message: str) -> None:
    """The container is named, and so are the image or the ConfigMap that is missing."""
    waiting = container(waiting={"reason": reason, "message": message})
    assert troubles(pod(containerStatuses=[waiting])) == [f"app-1/main: {reason} ({message})"]


def test_an_init_container_that_fails_is_named() -> None:
    """The main container only waits for it."""
    failed = {**container(waiting={"reason": "CrashLoopBackOff"}), "name": "migrate", "restartCount": 2}
    failed["lastState"] = {"terminated": {"exitCode": 3, "reason": "Error"}}
    assert troubles(pod(initContainerStatuses=[failed])) == [
        "app-1/migrate: CrashLoopBackOff, ended with exit code 3 Error, 2 restarts"
    ]


def test_probes_volumes_and_quotas_are_explained_by_events() -> None:
    """The newest warning of each reason; other warnings are no explanation."""
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
