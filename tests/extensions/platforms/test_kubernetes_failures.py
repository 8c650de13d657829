"""Faults of pods on a real cluster: the reason, the container, the message of Kubernetes, and the logs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from remediator.extensions.actions.service_logs import LogsParameters, ServiceLogs
from remediator.extensions.actions.service_status import ServiceStatusAction
from remediator.extensions.clientset import ClientSet
from remediator.extensions.parameters import Parameters
from remediator.extensions.platforms.base import Reason, State
from remediator.extensions.platforms.kubernetes import KubernetesPlatform
from tests.extensions.platforms.test_kubernetes import SERVE, bound, kubeconfig, platform, server_of, until, until_state
from tests.support.servers.kubernetes import Cluster

__all__ = ["platform"]
pytestmark = pytest.mark.kubernetes

NOBODY = {"tcpSocket": {"port": 81}, "periodSeconds": 1, "failureThreshold": 1}
MISSING_KEY = {"name": "X", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "x"}}}
MOUNT = {"volumeMounts": [{"name": "data", "mountPath": "/data"}]}
VOLUME = {"volumes": [{"name": "data", "secret": {"secretName": "credentials"}}]}
Fault = Callable[[Cluster], Mapping[str, Any]]


@pytest.mark.parametrize(
    ("reason", "fault", "container", "message"),
    [
        pytest.param(
            Reason.CONFIGURATION_MISSING,
            lambda _: {"container": {"env": [MISSING_KEY]}},
            "main",
            'configmap "settings" not found',
            id="a ConfigMap is missing",
        ),
        pytest.param(
            Reason.VOLUME_NOT_MOUNTED,
            lambda _: {"container": MOUNT, "pod": VOLUME},
            "",
            'secret "credentials" not found',
            id="a volume cannot be mounted",
        ),
        pytest.param(
            Reason.NOT_CREATED,
            lambda _: {"pod": {"serviceAccountName": "none"}},
            "",
            'serviceaccount "none" not found',
            id="the account is missing",
        ),
        pytest.param(
            Reason.CANNOT_START,
            lambda _: {"container": {"command": ["/opt/none"]}},
            "main",
            "/opt/none",
            id="the command does not exist",
        ),
        pytest.param(
            Reason.LIVENESS_FAILED,
            lambda _: {"container": {"livenessProbe": NOBODY}},
            "main",
            "Liveness probe failed",
            id="the liveness probe fails",
        ),
        pytest.param(
            Reason.LIVENESS_FAILED,
            lambda _: {"container": {"startupProbe": NOBODY}},
            "main",
            "Startup probe failed",
            id="the startup probe fails",
        ),
        pytest.param(
            Reason.READINESS_FAILED,
            lambda _: {"container": {"readinessProbe": NOBODY}},
            "main",
            "Readiness probe failed",
            id="the readiness probe fails",
        ),
        pytest.param(
            Reason.NOT_SCHEDULED,
            lambda _: {"pod": {"nodeSelector": {"example.com/disk": "none"}}},
            "",
            "0/1 nodes are available",
            id="no node fits",
        ),
        pytest.param(
            Reason.IMAGE_NOT_PULLED,
            lambda _: {"container": {"image": "local/none:1"}},
            "main",
            "local/none:1",
            id="the image does not exist",
        ),
        pytest.param(
            Reason.OUT_OF_MEMORY,
            lambda _: {"container": {"command": ["tail", "/dev/zero"], "resources": {"limits": {"memory": "32Mi"}}}},
            "main",
            "exit code",
            id="the memory limit is reached",
        ),
    ],
)
async def test_a_fault_has_its_reason(
    platform: KubernetesPlatform, cluster: Cluster, reason: Reason, fault: Fault, container: str, message: str
) -> None:
    """The status has one reason with the container and the message of Kubernetes; the pod of the earlier release still
    serves."""
    cluster.deploy("web", SERVE)
    service = bound(cluster)
    await until_state(platform, service, State.RUNNING)
    cluster.deploy("web", SERVE, **fault(cluster))

    def found(status: Any) -> bool:
        return any(each["reason"] == reason and message in each["message"] for each in status.facts["failures"])

    status = await until(lambda: platform.status(service), found)

    (failure,) = status.facts["failures"]
    assert (failure["container"], failure["init"], status.reasons) == (container, False, (reason,))
    assert status.healthy == 1, status.summary


@pytest.mark.parametrize(
    ("command", "image", "reasons"),
    [
        ("echo no table prices >&2; exit 4", None, (Reason.INIT_FAILED,)),
        ("true", "local/none:1", (Reason.IMAGE_NOT_PULLED, Reason.INIT_FAILED)),
    ],
)
async def test_an_init_container_that_fails(
    platform: KubernetesPlatform, cluster: Cluster, command: str, image: str | None, reasons: tuple[Reason, ...]
) -> None:
    """The failure names the init container, and the logs are from it; the waiting app container does not count as
    failed."""
    init = cluster.container(command, "migrate") | ({} if image is None else {"image": image})
    cluster.deploy("web", SERVE, pod={"initContainers": [init]})
    service = bound(cluster)
    status = await until(lambda: platform.status(service), lambda seen: seen.reasons == reasons)
    (failure,) = status.facts["failures"]
    assert (failure["container"], failure["init"]) == ("migrate", True)
    (described,) = status.facts["pods"]
    assert [each["name"] for each in described["containers"] if each["init"]] == ["migrate"]
    logs = await platform.logs(service, 10)
    if image is None:
        assert failure["exit_code"] == 4
        assert "/migrate]" in logs and "no table prices" in logs
    assert "/main]" not in logs


async def test_the_logs_are_those_of_the_container_that_fails(platform: KubernetesPlatform, cluster: Cluster) -> None:
    """If a sidecar crashes, its log is shown instead of the log of the app, although the app logs errors too."""
    noise = f"for i in 1 2 3; do echo ERROR from the app; done; {SERVE}"
    proxy = cluster.container("echo ModuleNotFoundError: envoy >&2; exit 7", "proxy")
    cluster.deploy("web", SERVE, pod={"containers": [cluster.container(noise), proxy]})
    service = bound(cluster)
    clients = ClientSet(platforms={"kubernetes": platform})
    status = await until(lambda: platform.status(service), lambda seen: seen.state is State.CRASH_LOOP)
    (failure,) = status.facts["failures"]
    assert (failure["reason"], failure["container"], failure["exit_code"]) == (Reason.CRASHED, "proxy", 7)

    logs = ServiceLogs(clients)
    result = await logs.execute(service, LogsParameters(), await logs.plan(service, LogsParameters()))

    assert result.output["signs"]["missing_module"] == "envoy"
    assert "from the app" not in result.output["tail"] and "/proxy]" in result.output["tail"]
    read = ServiceStatusAction(clients)
    evidence = await read.execute(service, Parameters(), await read.plan(service, Parameters()))
    assert evidence.output["reasons"] == ["crashed"] and evidence.output["failures"][0]["container"] == "proxy"


async def test_a_deployment_that_serves_has_no_failure(platform: KubernetesPlatform, cluster: Cluster) -> None:
    """The facts are the same as in ``kubectl describe``; the logs show all containers except a finished init
    container."""
    limits = {"resources": {"requests": {"memory": "8Mi"}, "limits": {"memory": "32Mi"}}}
    migrate = cluster.container("echo migrated", "migrate")
    cluster.deploy("web", SERVE, container=limits, pod={"initContainers": [migrate]})
    service = bound(cluster)
    status = await until_state(platform, service, State.RUNNING)
    assert status.facts["failures"] == [] and status.reasons == ()
    (pod,) = status.facts["pods"]
    assert pod["node"] and pod["created_at"] and pod["conditions"] == {}
    main = next(each for each in pod["containers"] if each["name"] == "main")
    assert (main["requests"], main["limits"], main["init"]) == ({"memory": "8Mi"}, {"memory": "32Mi"}, False)
    assert main["running_since"] is not None and main["waiting"] is None
    logs = await platform.logs(service, 10)
    assert "serving" in logs and "migrated" not in logs


async def test_events_have_object_message_time_and_number(platform: KubernetesPlatform, cluster: Cluster) -> None:
    """Each event has its object, message, time and number."""
    cluster.deploy("web", SERVE, container={"readinessProbe": NOBODY})
    service = bound(cluster)
    unhealthy: list[str] = []

    def again(status: Any) -> bool:
        unhealthy[:] = [each for each in status.facts["events"] if each.startswith("Unhealthy")]
        return any(" times, " in each for each in unhealthy)

    status = await until(lambda: platform.status(service), again)
    (text,) = unhealthy
    (pod,) = status.facts["pods"]
    assert f"(Pod {pod['name']}, " in text and ", last at 20" in text
    assert "ContainersNotReady" in pod["conditions"]["Ready"]


async def test_the_status_has_a_reason_without_the_right_to_read_events(
    platform: KubernetesPlatform, cluster: Cluster, tmp_path: Path
) -> None:
    """Without the right to read events, the status still has the reason of a failing probe."""
    cluster.deploy("web", SERVE, container={"readinessProbe": NOBODY})
    resources = ["pods", "deployments", "replicasets", "horizontalpodautoscalers"]
    rules = {"apiGroups": ["", "apps", "autoscaling"], "resources": resources, "verbs": ["get", "list"]}
    path = kubeconfig(tmp_path, server_of(cluster), token=cluster.account("noevents", rules))
    service = bound(cluster, kubeconfig=str(path))
    status = await until(lambda: platform.status(service), lambda seen: bool(seen.reasons))
    assert status.reasons == (Reason.READINESS_FAILED,) and status.facts["events"] == []
    assert "not ready since its start" in status.facts["failures"][0]["message"]
