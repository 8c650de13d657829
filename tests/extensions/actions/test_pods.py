"""``pod.delete`` and ``pod.evict`` on a real cluster: only the planned pod, within its PodDisruptionBudgets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from remediator.clients.kubernetes.models import DisruptionBudget, Selector
from remediator.errors import TargetError
from remediator.extensions.actions._pod_removal import PodParameters, PodRemoval
from remediator.extensions.actions.base import EffectStatus
from remediator.extensions.actions.pod_delete import PodDelete
from remediator.extensions.actions.pod_evict import PodEvict
from remediator.extensions.clientset import ClientSet
from remediator.extensions.platforms.base import State
from remediator.extensions.platforms.kubernetes import KubernetesPlatform
from remediator.extensions.platforms.systemd import SystemdPlatform
from remediator.playbooks.inventory import Service
from tests.extensions.platforms.test_kubernetes import SERVE, bound, kubeconfig, server_of, until, until_state
from tests.support.servers.kubernetes import Cluster

real = pytest.mark.kubernetes
WEB = "mkdir -p /tmp/www; echo well >/tmp/www/ready; exec httpd -f -p 8080 -h /tmp/www"
PROBE = {"httpGet": {"path": "/ready", "port": 8080}, "periodSeconds": 1, "timeoutSeconds": 10, "failureThreshold": 2}
NOW = datetime(2026, 11, 29, tzinfo=UTC)
ACTIONS = (PodDelete, PodEvict)


@pytest.fixture
async def platform() -> AsyncIterator[KubernetesPlatform]:
    """Return the platform, and close it after the test."""
    platform = KubernetesPlatform()
    yield platform
    await platform.aclose()


def action(kind: type[PodRemoval], platform: KubernetesPlatform) -> PodRemoval:
    """Return the action with the cluster as its only client."""
    return kind(ClientSet(platforms={"kubernetes": platform}))


async def two_pods(platform: KubernetesPlatform, cluster: Cluster) -> Service:
    """Deploy a StatefulSet of two pods with a readiness probe, and wait until both are ready."""
    cluster.deploy(
        "web",
        WEB,
        kind="StatefulSet",
        container={"readinessProbe": PROBE},
        serviceName="web",
        replicas=2,
        podManagementPolicy="Parallel",
    )
    service = bound(cluster, statefulset="web")
    await until(
        lambda: platform.status(service),
        lambda seen: (seen.state, seen.healthy) == (State.RUNNING, 2),
    )
    return service


async def let_fail(platform: KubernetesPlatform, cluster: Cluster, service: Service, pod: str) -> None:
    """Let the readiness probe of a pod fail."""
    cluster.kubectl("exec", pod, "--", "sh", "-c", "mv /tmp/www/ready /tmp/www/ill")
    await until(lambda: platform.status(service), lambda seen: seen.healthy == 1)


async def protect(cluster: Cluster, name: str = "guard", **limit: Any) -> None:
    """Create a PodDisruptionBudget for the pods, and wait until its controller has counted them."""
    version = "v1" if "policy/v1" in cluster.kubectl("api-versions").split() else "v1beta1"  # Kubernetes before 1.21
    spec = {"selector": {"matchLabels": {"app": "web"}}, **limit}
    metadata = {"name": name}
    cluster.apply(
        {"apiVersion": f"policy/{version}", "kind": "PodDisruptionBudget", "metadata": metadata, "spec": spec}
    )
    await until(
        lambda: asyncio.to_thread(cluster.get, "poddisruptionbudget", name),
        lambda seen: seen.get("status", {}).get("expectedPods") == 2,
    )


def uid(cluster: Cluster, pod: str) -> str:
    """Return the UID of the pod."""
    found: str = cluster.get("pod", pod)["metadata"]["uid"]
    return found


@real
@pytest.mark.usefixtures("controllers")
@pytest.mark.parametrize("kind", ACTIONS)
async def test_the_pod_that_does_not_serve_is_replaced(
    platform: KubernetesPlatform, cluster: Cluster, kind: type[PodRemoval]
) -> None:
    """The action finds the unready pod without a name; the other pod stays and serves."""
    service = await two_pods(platform, cluster)
    removal, other = action(kind, platform), uid(cluster, "web-0")
    with pytest.raises(TargetError, match="which pod of web is unclear: every pod serves; name one"):
        await removal.plan(service, PodParameters())
    await let_fail(platform, cluster, service, "web-1")

    call = await removal.plan(service, PodParameters())
    assert call == await removal.plan(service, PodParameters())
    verb = kind.name.removeprefix("pod.")
    assert call.text.endswith(f"{verb} pod web-1, which its StatefulSet creates again")
    assert (await removal.cost(service, PodParameters(), call)).sole_instance is False
    before = await removal.observe(service, PodParameters(), call, NOW)
    result = await removal.execute(service, PodParameters(), call)
    after = await removal.observe(service, PodParameters(), call, NOW)

    assert (before.happened, after.happened) == (EffectStatus.NO, EffectStatus.YES)
    assert result.output == {"pod": "web-1"}
    await until_state(platform, service, State.RUNNING)
    assert uid(cluster, "web-0") == other and uid(cluster, "web-1") != call.pin["uid"]
    with pytest.raises(TargetError, match="pod web-1 was replaced after planning; nothing was changed"):
        await removal.execute(service, PodParameters(), call)


@real
@pytest.mark.usefixtures("controllers")
async def test_a_pod_that_serves_again_is_left_alone(platform: KubernetesPlatform, cluster: Cluster) -> None:
    """If the pod has become ready after planning, it is not removed."""
    service = await two_pods(platform, cluster)
    await let_fail(platform, cluster, service, "web-1")
    removal = action(PodDelete, platform)
    call = await removal.plan(service, PodParameters())
    cluster.kubectl("exec", "web-1", "--", "sh", "-c", "mv /tmp/www/ill /tmp/www/ready")
    await until(lambda: platform.status(service), lambda seen: seen.healthy == 2)
    with pytest.raises(TargetError, match="pod web-1 serves again; nothing was changed"):
        await removal.execute(service, PodParameters(), call)
    assert uid(cluster, "web-1") == call.pin["uid"]


@real
@pytest.mark.usefixtures("controllers")
@pytest.mark.parametrize("kind", ACTIONS)
async def test_a_budget_is_respected_and_explained(
    platform: KubernetesPlatform, cluster: Cluster, kind: type[PodRemoval]
) -> None:
    """The budget is checked at planning and before the call: a ready pod is not removed if this would violate the
    budget."""
    service = await two_pods(platform, cluster)
    removal, named = action(kind, platform), PodParameters(pod="web-0")
    early = await removal.plan(service, named)
    assert (await removal.cost(service, named, early)).ready_instances == 2
    await protect(cluster, minAvailable=2)
    expected = r"PodDisruptionBudget guard \(minAvailable 2\): 2 of 2 pods are healthy, 2 must be"
    with pytest.raises(TargetError, match=f"pod web-0, which serves: {expected}; wait until more pods are healthy"):
        await removal.plan(service, named)
    with pytest.raises(TargetError, match=f"{expected}.*nothing was changed"):
        await removal.execute(service, named, early)
    assert uid(cluster, "web-0") == early.pin["uid"]
    assert "deletionTimestamp" not in cluster.get("pod", "web-0")["metadata"]


@real
@pytest.mark.usefixtures("controllers")
async def test_a_pod_that_does_not_serve_is_deleted_but_not_evicted(
    platform: KubernetesPlatform, cluster: Cluster
) -> None:
    """The API server refuses the eviction while the budget is violated; the error suggests ``pod.delete``."""
    service = await two_pods(platform, cluster)
    await protect(cluster, maxUnavailable=0)
    await let_fail(platform, cluster, service, "web-1")
    evict, delete = action(PodEvict, platform), action(PodDelete, platform)
    call = await evict.plan(service, PodParameters())
    with pytest.raises(TargetError, match=r"cannot evict pod web-1: PodDisruptionBudget guard .*pod\.delete removes"):
        await evict.execute(service, PodParameters(), call)
    assert (await evict.observe(service, PodParameters(), call, NOW)).happened is EffectStatus.NO

    await delete.execute(service, PodParameters(), await delete.plan(service, PodParameters()))

    await until_state(platform, service, State.RUNNING)
    assert uid(cluster, "web-1") != call.pin["uid"]


@real
@pytest.mark.usefixtures("controllers")
async def test_two_budgets_of_one_pod_are_refused(platform: KubernetesPlatform, cluster: Cluster) -> None:
    """Kubernetes answers such an eviction with a 500, whose outcome would be unknown, so the plan is refused."""
    service = await two_pods(platform, cluster)
    await protect(cluster, "one", minAvailable=1)
    await protect(cluster, "two", minAvailable=1)
    with pytest.raises(TargetError, match=r"more than one PodDisruptionBudget \(one, two\)"):
        await action(PodEvict, platform).plan(service, PodParameters(pod="web-0"))


@real
@pytest.mark.usefixtures("controllers")
async def test_only_pods_of_the_service_are_removed(platform: KubernetesPlatform, cluster: Cluster) -> None:
    """A label of an alert may name any pod, but only pods of the service are accepted; several unready pods need a
    name."""
    service = await two_pods(platform, cluster)
    cluster.deploy("other", SERVE)
    await until_state(platform, bound(cluster, "other"), State.RUNNING)
    (stranger,) = (each["metadata"]["name"] for each in cluster.get("pods", "--selector=app=other")["items"])
    removal = action(PodDelete, platform)
    with pytest.raises(TargetError, match=f"{stranger} is not a pod of web; its pods: web-0, web-1"):
        await removal.plan(service, PodParameters(pod=stranger))
    for pod in ("web-0", "web-1"):
        cluster.kubectl("exec", pod, "--", "sh", "-c", "mv /tmp/www/ready /tmp/www/ill")
    await until(lambda: platform.status(service), lambda seen: seen.healthy == 0)
    with pytest.raises(TargetError, match="several pods do not serve: web-0, web-1; name one"):
        await removal.plan(service, PodParameters())


@real
async def test_missing_rights_are_found_before_the_plan(
    platform: KubernetesPlatform, cluster: Cluster, tmp_path: Path
) -> None:
    """The plan of each action names every missing right."""
    cluster.deploy("web", SERVE, replicas=0)
    rules = {"apiGroups": ["", "apps"], "resources": ["*"], "verbs": ["get", "list"]}
    path = kubeconfig(tmp_path, server_of(cluster), token=cluster.account("reader", rules))
    service = bound(cluster, kubeconfig=str(path))
    with pytest.raises(TargetError, match="no right to list poddisruptionbudgets, delete pods; grant it"):
        await action(PodDelete, platform).plan(service, PodParameters())
    with pytest.raises(TargetError, match=r"create pods \(subresource eviction\)"):
        await action(PodEvict, platform).plan(service, PodParameters())


@pytest.mark.parametrize("name", ["../x", "web 0", "Web", "-web", "web-", "", "a" * 254])
def test_a_label_that_is_no_name_is_refused(name: str) -> None:
    """A value that is not a valid pod name is refused, so it never becomes part of a path."""
    with pytest.raises(ValueError, match="pattern"):
        PodParameters(pod=name)


async def test_other_platforms_have_no_pods() -> None:
    """The action is refused before any call; lint reports this too."""
    service = Service.model_validate({"name": "x", "platform": {"kind": "systemd", "unit": "x.service"}})
    removal = PodDelete(ClientSet(platforms={"systemd": SystemdPlatform()}))
    with pytest.raises(TargetError, match="does not run on Kubernetes"):
        await removal.plan(service, PodParameters())
    assert {"pod.delete", "pod.evict"} <= SystemdPlatform.unsupported()


@pytest.mark.parametrize(
    ("selector", "covered"),
    [
        ({"matchLabels": {"app": "web"}}, True),
        ({"matchLabels": {"app": "web", "tier": "front"}}, False),
        ({"matchExpressions": [{"key": "app", "operator": "In", "values": ["web", "api"]}]}, True),
        ({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["web"]}]}, False),
        ({"matchExpressions": [{"key": "app", "operator": "Exists"}]}, True),
        ({"matchExpressions": [{"key": "app", "operator": "DoesNotExist"}]}, False),
        ({"matchExpressions": [{"key": "tier", "operator": "NotIn", "values": ["back"]}]}, True),
    ],
)
def test_a_budget_covers_pods_by_its_selector(selector: dict[str, Any], covered: bool) -> None:
    """All requirements of the selector must match, as in the API server."""
    budget = msgspec.convert({"metadata": {"name": "b"}, "spec": {"selector": selector}}, DisruptionBudget)
    assert budget.covers({"app": "web"}) is covered
    assert isinstance(budget.spec.selector, Selector)
