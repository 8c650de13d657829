"""The client of Kubernetes, against a real cluster."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from remediator.clients.endpoints import Endpoint
from remediator.clients.http import tls_context
from remediator.clients.kubernetes.client import Kubernetes, KubernetesRefused, restarted_at
from remediator.clients.kubernetes.kubeconfig import Access, from_kubeconfig, from_service_account
from remediator.clients.kubernetes.models import Pod, Requirement, Selector, selector_text
from remediator.errors import BadAnswer, InputError, TargetError, TimedOut, Unreachable
from tests.support.fake_servers import peer, reply
from tests.support.servers.kubernetes import Cluster

real = pytest.mark.kubernetes
Connect = Callable[[Access], Kubernetes]
FOREVER = "while true; do sleep 1; done"


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    """Return a function that makes clients. They are closed after the test."""
    made: list[Kubernetes] = []

    def make(access: Access) -> Kubernetes:
        made.append(Kubernetes(access))
        return made[-1]

    yield make
    for client in made:
        await client.aclose()


@pytest.fixture
def client(cluster: Cluster, connect: Connect) -> Kubernetes:
    return connect(in_namespace(from_kubeconfig(cluster.kubeconfig), cluster.namespace))


def in_namespace(access: Access, namespace: str) -> Access:
    return Access(access.endpoint, namespace, access.context, access.credentials)


async def eventually(seen: Callable[[], Awaitable[Any]], seconds: float = 60) -> Any:
    """Poll until the result is not empty, and return it."""
    async with asyncio.timeout(seconds):
        while not (found := await seen()):
            await asyncio.sleep(0.1)
        return found


async def crashed(client: Kubernetes, app: str) -> Pod | None:
    """Return the pod when it waits for a restart after a crash."""
    for pod in await client.pods({"app": app}):
        for status in pod.status.container_statuses:
            if status.state.waiting is not None and status.state.waiting.reason == "CrashLoopBackOff":
                return pod
    return None


@real
async def test_a_crash_loop_is_shown_with_its_last_log(client: Kubernetes, cluster: Cluster) -> None:
    """The client shows CrashLoopBackOff, the last exit code, the log of the previous container, and the events."""
    cluster.deploy("crash", "echo about to fail; exit 3")
    pod = await eventually(lambda: crashed(client, "crash"))
    (status,) = pod.status.container_statuses
    assert (status.name, status.ready, pod.ready) == ("main", False, False)
    assert status.restart_count >= 1
    ended = status.last_state.terminated
    assert ended is not None and (ended.exit_code, ended.reason) == (3, "Error")
    assert ended.finished_at is not None and ended.started_at is not None
    assert (await client.logs(pod.metadata.name, "main", previous=True)).strip() == "about to fail"
    events = await client.events("Pod", pod.metadata.name)
    assert "BackOff" in {event.reason for event in events}
    warning = next(event for event in events if event.reason == "BackOff")
    assert warning.type == "Warning" and warning.at is not None and warning.involved_object.kind == "Pod"
    owner = pod.metadata.controller
    assert owner is not None and owner.kind == "ReplicaSet" and owner.name.startswith("crash-")


@real
async def test_a_restart_recreates_the_pods(client: Kubernetes, cluster: Cluster) -> None:
    """A restart sets the annotation of kubectl rollout restart. The status counts only for the new generation."""
    cluster.deploy("web", FOREVER)
    cluster.until_available("web")
    (before,) = await client.pods({"app": "web"})
    planned = await client.workload("deployments", "web")
    assert planned.observed and planned.status.available_replicas == 1 and planned.revision == 1
    assert planned.spec.template.spec.containers[0].image == cluster.image
    changed = await client.patch(
        "deployments", "web", restarted_at("2026-01-01T00:00:00Z"), expected=planned.metadata.resource_version
    )
    assert changed.metadata.generation == planned.metadata.generation + 1 and not changed.observed

    async def done() -> bool:
        now = await client.workload("deployments", "web")
        return now.observed and now.status.updated_replicas == now.status.available_replicas == now.status.replicas == 1

    await eventually(done)
    cluster.until_available("web")
    names = {pod.metadata.name for pod in await client.pods({"app": "web"}) if pod.metadata.deletion_timestamp is None}
    assert before.metadata.name not in names and len(names) == 1
    available = (await client.workload("deployments", "web")).condition("Available")
    assert available is not None and available.status == "True"


@real
@pytest.mark.promise(3)
async def test_an_object_that_changed_since_the_plan_is_not_changed(client: Kubernetes, cluster: Cluster) -> None:
    """Patch, scale and rollback against an old version change nothing: the API server compares versions."""
    cluster.deploy("web", FOREVER)
    cluster.until_available("web")
    old = (await client.workload("deployments", "web")).metadata.resource_version
    template = await client.template("deployments", "web")
    cluster.kubectl("label", "deployment/web", "somebody=else")
    generation = (await client.workload("deployments", "web")).metadata.generation
    for change in (
        client.patch("deployments", "web", restarted_at("now"), expected=old),
        client.set_scale("deployments", "web", 3, expected=old),
        client.replace_template("deployments", "web", template, expected=old),
    ):
        with pytest.raises(TargetError, match="nothing was changed"):
            await change
    now = await client.workload("deployments", "web")
    assert (now.metadata.generation, now.spec.replicas) == (generation, 1)


@real
async def test_an_invalid_change_is_refused(client: Kubernetes, cluster: Cluster) -> None:
    """The API server validates a change. The client raises its status and its reason."""
    cluster.deploy("web", FOREVER)
    with pytest.raises(KubernetesRefused) as refused:
        await client.patch("deployments", "web", {"spec": {"replicas": -1}})
    assert (refused.value.status, refused.value.reason) == (422, "Invalid")


@real
async def test_a_rollback_brings_back_the_recorded_revision(client: Kubernetes, cluster: Cluster) -> None:
    """A rollback restores the template of the revision. The replaced template becomes the next revision."""
    cluster.deploy("web", FOREVER)
    cluster.until_available("web")
    cluster.deploy("web", "exit 1")

    async def two() -> Any:
        found = await client.workloads("replicasets", {"app": "web"})
        return {each.revision: each for each in found if each.revision} if len(found) == 2 else None

    revisions = await eventually(two)
    assert set(revisions) == {1, 2}
    first = revisions[1]
    assert first.metadata.controller is not None and first.metadata.controller.name == "web"
    template = await client.template("replicasets", first.metadata.name)
    labels = {key: value for key, value in template["metadata"]["labels"].items() if key != "pod-template-hash"}
    template = {**template, "metadata": {"labels": labels}}

    async def undone() -> Any:
        planned = await client.workload("deployments", "web")
        try:
            return await client.replace_template(
                "deployments", "web", template, expected=planned.metadata.resource_version
            )
        except TargetError:
            return None  # the controller updated the status in the meantime

    await eventually(undone)
    cluster.until_available("web")
    now = await client.workload("deployments", "web")
    assert now.revision == 3 and now.status.available_replicas == 1
    command = cluster.get("deployment", "web")["spec"]["template"]["spec"]["containers"][0]["command"]
    assert command[-1] == FOREVER


@real
async def test_scaling_names_an_autoscaler_of_the_workload(client: Kubernetes, cluster: Cluster) -> None:
    """The client uses the scale subresource, and names an autoscaler of the same workload."""
    cluster.deploy("web", FOREVER)
    planned = await client.scale("deployments", "web")
    scaled = await client.set_scale("deployments", "web", 2)
    assert (planned.spec.replicas, scaled.spec.replicas) == (1, 2)

    async def there() -> bool:
        return (await client.scale("deployments", "web")).status.replicas == 2

    await eventually(there)
    assert await client.autoscalers() == ()
    cluster.kubectl("autoscale", "deployment/web", "--min=2", "--max=4", "--cpu-percent=80")
    (autoscaler,) = await client.autoscalers()
    assert (autoscaler.spec.scale_target_ref.kind, autoscaler.spec.scale_target_ref.name) == ("Deployment", "web")
    with pytest.raises(InputError):
        await client.set_scale("deployments", "web", -1)


@real
async def test_stateful_sets_are_workloads_too(client: Kubernetes, cluster: Cluster) -> None:
    """The client finds, reads and patches StatefulSets like Deployments."""
    cluster.deploy("db", FOREVER, kind="StatefulSet", serviceName="db", replicas=0)
    assert (await client.workload("statefulsets", "db")).spec.replicas == 0
    assert [each.metadata.name for each in await client.workloads("statefulsets", {"app": "db"})] == ["db"]
    changed = await client.patch("statefulsets", "db", restarted_at("2026-01-01T00:00:00Z"))
    assert changed.spec.template.metadata.annotations["kubectl.kubernetes.io/restartedAt"] == "2026-01-01T00:00:00Z"


@real
async def test_long_logs_keep_their_last_lines(client: Kubernetes, cluster: Cluster) -> None:
    """The client returns as many of the last lines as fit."""
    cluster.deploy("talk", "i=0; while test $i -lt 2000; do echo line $i; i=$((i+1)); done; " + FOREVER)

    async def written() -> Any:
        pods = await client.pods({"app": "talk"})
        if not pods or pods[0].status.phase != "Running":
            return None
        return "line 1999" in await client.logs(pods[0].metadata.name, "main", 1) and pods[0]

    pod = await eventually(written)
    assert await client.logs(pod.metadata.name, "main", 2) == "line 1998\nline 1999\n"
    short = await client.logs(pod.metadata.name, "main", 2000, max_bytes=2000)
    assert short.endswith("line 1999\n") and 10 < len(short.splitlines()) < 200


@real
async def test_a_long_list_is_read_to_its_end(
    client: Kubernetes, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client reads a list page by page. Too many pages are an error."""
    cluster.deploy("web", FOREVER, replicas=0)
    for number in range(3):
        cluster.deploy(f"web-{number}", FOREVER, replicas=0)
        cluster.kubectl("label", f"deployment/web-{number}", "part=web")
    monkeypatch.setattr("remediator.clients.kubernetes.client._PAGE", 1)
    assert len(await client.workloads("deployments", {"part": "web"})) == 3
    monkeypatch.setattr("remediator.clients.kubernetes.client._MOST_PAGES", 2)
    with pytest.raises(BadAnswer, match="more than 2"):
        await client.workloads("deployments", {"part": "web"})


@real
async def test_selectors_of_every_form_are_understood(client: Kubernetes, cluster: Cluster) -> None:
    """Label selectors with labels and expressions are supported."""
    for name in ("one", "two"):
        cluster.deploy(name, FOREVER, replicas=0)
    both = Selector(match_expressions=(Requirement(key="app", operator="In", values=("one", "two")),))
    not_two = Requirement(key="app", operator="NotIn", values=("two",))
    one = Selector(match_expressions=(Requirement(key="app", operator="Exists"), not_two))
    none = Selector(match_labels={"app": "one"}, match_expressions=(Requirement(key="app", operator="DoesNotExist"),))
    assert {each.metadata.name for each in await client.workloads("deployments", both)} == {"one", "two"}
    assert {each.metadata.name for each in await client.workloads("deployments", one)} == {"one"}
    assert await client.workloads("deployments", none) == ()


@real
async def test_a_service_account_can_do_what_its_role_allows(
    cluster: Cluster, connect: Connect, tmp_path: Path
) -> None:
    """With token, CA and namespace of a pod, only calls in the Role succeed. Rights can be checked before a call."""
    cluster.deploy("web", FOREVER)
    token = cluster.account(
        "watcher",
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]},
        {
            "apiGroups": ["apps"],
            "resources": ["deployments/scale"],
            "verbs": ["get", "patch"],
            "resourceNames": ["web"],
        },
    )
    (tmp_path / "token").write_text(token)
    (tmp_path / "ca.crt").write_text(cluster.authority())
    (tmp_path / "namespace").write_text(cluster.namespace)
    server = from_kubeconfig(cluster.kubeconfig).endpoint.url.removeprefix("https://").split(":")
    environment = {"KUBERNETES_SERVICE_HOST": server[0], "KUBERNETES_SERVICE_PORT": server[1]}
    client = connect(from_service_account(tmp_path, environment))
    assert len(await client.pods({"app": "web"})) <= 1
    assert (await client.set_scale("deployments", "web", 2)).spec.replicas == 2
    assert await client.may("patch", "apps", "deployments", "web", "scale")
    assert not await client.may("patch", "apps", "deployments", "web")
    for call in (
        client.patch("deployments", "web", restarted_at("now")),
        client.workload("deployments", "web"),
        client.set_scale("deployments", "other", 1),
        client.events("Pod", "x"),
    ):
        with pytest.raises(KubernetesRefused) as refused:
            await call
        assert (refused.value.status, refused.value.reason) == (403, "Forbidden")
    (tmp_path / "token").write_text("expired")
    with pytest.raises(KubernetesRefused) as refused:
        await client.pods({"app": "web"})
    assert refused.value.status == 401


@real
async def test_what_is_not_there_is_refused(client: Kubernetes) -> None:
    """A call for a missing object is refused, with the reason of the API server."""
    for call in (
        client.workload("deployments", "none"),
        client.pod("none"),
        client.logs("none", "main"),
        client.set_scale("deployments", "none", 1),
    ):
        with pytest.raises(KubernetesRefused) as refused:
            await call
        assert (refused.value.status, refused.value.reason) == (404, "NotFound")
    assert (await client.version()).startswith("v1.")


def plain(url: str) -> Access:
    """Return access to a peer without TLS."""
    endpoint = Endpoint(url=url)
    return Access(endpoint, "default", tls_context(endpoint.tls), dict)


@pytest.mark.promise(3)
@pytest.mark.parametrize("status", [500, 503, 504])
async def test_an_error_of_the_server_after_a_change_is_unknown(connect: Connect, status: int) -> None:
    """After a change, a server error means unknown, because etcd may have stored it. After a read it is a refusal."""
    body = json.dumps({"kind": "Status", "reason": "InternalError", "message": "etcdserver: request timed out"})
    async with peer(reply(status, body.encode())) as server:
        client = connect(plain(server.url))
        with pytest.raises(TimedOut):
            await client.set_scale("deployments", "web", 1)
        with pytest.raises(KubernetesRefused):
            await client.scale("deployments", "web")


@pytest.mark.parametrize("body", [b"", b"{}", b"<html>", b'{"metadata": {"name": "x"}, "spec": {}}'])
async def test_an_invalid_response_is_a_bad_answer(connect: Connect, body: bytes) -> None:
    """An invalid answer is a BadAnswer. The client does not invent values."""
    async with peer(reply(200, body)) as server:
        client = connect(plain(server.url))
        for call in (client.workload("deployments", "x"), client.template("deployments", "x")):
            with pytest.raises(BadAnswer):
                await call


@pytest.mark.promise(8)
@pytest.mark.parametrize("name", ["", "..", "a/b", "a?x=1", "A", "-a", "a b", "a\n", "x" * 254])
async def test_a_name_cannot_become_another_call(connect: Connect, name: str) -> None:
    """A name that could change the URL is refused, and nothing is sent."""
    async with peer(reply(200, b"{}")) as server:
        client = connect(plain(server.url))
        calls = (
            client.pod(name),
            client.logs("x", name),
            client.workload("deployments", name),
            client.events("Pod", name),
        )
        for call in calls:
            with pytest.raises(InputError):
                await call
        assert server.requests == []
    with pytest.raises(InputError):
        connect(in_namespace(plain("http://127.0.0.1"), name))


def test_an_empty_selector_is_refused() -> None:
    """An empty selector is refused, because it would select every pod."""
    for empty in ({}, Selector()):
        with pytest.raises(InputError, match="empty"):
            selector_text(empty)


async def test_a_dead_server_is_unreachable(connect: Connect) -> None:
    """A call to a dead server is Unreachable: nothing happened."""
    with pytest.raises(Unreachable):
        await connect(plain("http://127.0.0.1:1")).set_scale("deployments", "web", 1)


@real
async def test_kubeconfig_of_the_cluster_itself(cluster: Cluster) -> None:
    """The client accepts the kubeconfig that the cluster provides."""
    config = yaml.safe_load(cluster.kubeconfig.read_text())
    assert from_kubeconfig(cluster.kubeconfig, config["current-context"]).endpoint.url.startswith("http")
