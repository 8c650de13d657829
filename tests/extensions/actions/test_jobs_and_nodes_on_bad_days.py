"""Jobs, nodes and pods with an API server that is down, is slow, sends invalid answers, or loses its answer after the
change."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from remediator.clients.kubernetes.jobs import job_name
from remediator.core.plan import PlannedCall
from remediator.errors import BadAnswer, TimedOut, Unreachable
from remediator.extensions.actions.base import RUN, STEP, Action, EffectStatus
from remediator.extensions.actions.job_run import JobRun
from remediator.extensions.actions.job_wait import JobWait
from remediator.extensions.actions.node_cordon import NodeCordon
from remediator.extensions.actions.node_drain import NodeDrain
from remediator.extensions.actions.node_uncordon import NodeUncordon
from remediator.extensions.actions.pod_delete import PodDelete
from remediator.extensions.actions.pod_evict import PodEvict
from remediator.extensions.clientset import ClientSet
from remediator.extensions.platforms.base import SERVES
from remediator.extensions.platforms.kubernetes import KubernetesPlatform
from remediator.extensions.platforms.kubernetes_nodes import KubernetesNodesPlatform
from remediator.playbooks.inventory import Service
from tests.support.action_runner import do, observe, plan
from tests.support.fake_servers import hang_up, peer, reply, silence

NODE: dict[str, Any] = {"node": "worker-1"}
GIVEN: dict[str, dict[str, Any]] = {
    "job.run": {"job": "reindex"},
    "job.wait": {"job": "reindex"},
    "pod.delete": {"pod": "web"},
    "pod.evict": {"pod": "web"},
}
CHANGING = ("job.run", "node.cordon", "node.drain", "node.uncordon")
PODS = ("pod.delete", "pod.evict")
EACH = pytest.mark.parametrize("name", [*CHANGING, "job.wait", *PODS])


@pytest.fixture
async def actions() -> AsyncIterator[dict[str, Action]]:
    """Return the actions in a step of a run, and close their connections after the test."""
    platform = KubernetesPlatform()
    clients = ClientSet(platforms={"kubernetes": platform, "kubernetes_nodes": KubernetesNodesPlatform()})
    RUN.set("run-1")
    STEP.set("step")
    yield {
        each.name: each(clients) for each in (JobRun, JobWait, NodeCordon, NodeDrain, NodeUncordon, PodDelete, PodEvict)
    }
    await platform.aclose()


def far(name: str, folder: Path, url: str, timeout: str = "20s") -> Service:
    """Return the target of an action in a cluster at this address."""
    config = {
        "clusters": [{"name": "c", "cluster": {"server": url}}],
        "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "m", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "m",
    }
    path = folder / f"config-{url.rpartition(':')[2]}"
    path.write_text(yaml.safe_dump(config))
    where = {"kubeconfig": str(path), "timeout": timeout}
    if name.startswith("node."):
        platform = {"kind": "kubernetes_nodes", "nodes": ["worker-1"], **where}
        return Service.model_validate({"name": "workers", "platform": platform})
    spec = {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "none"}]}}}
    job = {"apiVersion": "batch/v1", "kind": "Job", "spec": spec}
    (folder / "job.yaml").write_text(yaml.safe_dump(job))
    platform = {"kind": "kubernetes", "namespace": "shop", "deployment": "shop", **where}
    jobs = {"reindex": {"manifest": str(folder / "job.yaml")}}
    return Service.model_validate({"name": "shop", "platform": platform, "jobs": jobs})


@EACH
async def test_unreachable_silent_and_invalid_servers_have_different_errors(
    name: str, actions: dict[str, Action], tmp_path: Path
) -> None:
    """Each error shows whether the call may have taken effect."""
    given = GIVEN.get(name, NODE)
    with pytest.raises(Unreachable):
        await plan(actions[name], far(name, tmp_path, "http://127.0.0.1:1"), **given)
    nonsense = reply(200, b"<html>", "connection: close")
    for script, timeout, error in ((silence, "300ms", TimedOut), (nonsense, "20s", BadAnswer)):
        async with peer(script) as server:
            with pytest.raises(error):
                await plan(actions[name], far(name, tmp_path, server.url, timeout), **given)


class World:
    """An API server with one node, one pod and Jobs. It performs each change and loses the answer."""

    def __init__(self, *, cordoned: bool) -> None:
        self.cordoned = cordoned
        self.pods = [{"metadata": {"name": "web", "namespace": "shop", "uid": "p", "ownerReferences": [OWNER]}}]
        self.jobs: dict[str, Any] = {}
        self.changes: list[bytes] = []

    def node(self) -> dict[str, Any]:
        """Return the current node."""
        annotations = {"remediator.cordoned-by": "run-1"} if self.cordoned else {}
        metadata = {"name": "worker-1", "uid": "n", "resourceVersion": "7", "annotations": annotations}
        return {"metadata": metadata, "spec": {"unschedulable": self.cordoned}}

    async def __call__(self, request: bytes, writer: asyncio.StreamWriter) -> None:
        method, _, rest = request.partition(b" ")
        path = rest.partition(b" ")[0]
        if (method != b"GET" and b"dryRun" not in path) and b"selfsubject" not in path:
            self.changes.append(method + b" " + path)
            self.change(method, path, json.loads(request.partition(b"\r\n\r\n")[2]))
            await hang_up(request, writer)
            return
        status, answer = self.read(path)
        await reply(status, json.dumps(answer).encode(), "connection: close")(request, writer)

    def change(self, method: bytes, path: bytes, body: dict[str, Any]) -> None:
        """Perform the requested change."""
        if b"/eviction" in path or method == b"DELETE":
            self.pods.clear()
        elif b"/jobs" in path:
            self.jobs[body["metadata"]["name"]] = body
        else:
            self.cordoned = bool(body["spec"]["unschedulable"])

    def read(self, path: bytes) -> tuple[int, Any]:
        """Return the requested object."""
        plain = path.partition(b"?")[0].decode()
        if "selfsubject" in plain:
            return 201, {"status": {"allowed": True}}
        if "dryRun" in path.decode():
            return 201, {"metadata": {"name": "planned"}}
        if "/jobs/" in plain:
            found = self.jobs.get(plain.rpartition("/")[2])
            return (200, found) if found else (404, {"reason": "NotFound"})
        if plain == "/api/v1/namespaces/shop/pods/web":
            return (200, self.pods[0]) if self.pods else (404, {"reason": "NotFound"})
        if plain.endswith("/poddisruptionbudgets"):
            return 200, {"items": []}
        answers = {
            "/api/v1": {"resources": [{"name": "pods/eviction", "group": "policy", "version": "v1"}]},
            "/api/v1/nodes": {"items": [self.node()]},
            "/api/v1/nodes/worker-1": self.node(),
            "/api/v1/pods": {"items": self.pods},
        }
        return 200, answers[plain]


OWNER = {"kind": "ReplicaSet", "name": "web", "uid": "r", "controller": True}


@pytest.mark.parametrize("name", CHANGING)
async def test_a_lost_answer_is_observed_as_done(name: str, actions: dict[str, Action], tmp_path: Path) -> None:
    """The change is sent once. Its outcome is unknown, and an observation shows its effect in the cluster."""
    world, given = World(cordoned=name in ("node.uncordon", "node.drain")), GIVEN.get(name, NODE)
    async with peer(world) as server:
        target = far(name, tmp_path, server.url)
        call = await plan(actions[name], target, **given)
        assert world.changes == [] and (await observe(actions[name], target, call, **given)).happened in (
            EffectStatus.NO,
            EffectStatus.UNKNOWN,
        )
        with pytest.raises(TimedOut):
            await do(actions[name], target, call=call, **given)
        assert (await observe(actions[name], target, call, **given)).happened is EffectStatus.YES
    assert len(world.changes) == 1
    assert list(world.jobs) == ([job_name("reindex", "run-1", "step")] if name == "job.run" else [])


@pytest.mark.parametrize("name", PODS)
async def test_a_removal_with_a_lost_answer_is_observed_as_done(
    name: str, actions: dict[str, Action], tmp_path: Path
) -> None:
    """The pod is removed once. The outcome is unknown, and an observation shows that the pod is gone."""
    world, given = World(cordoned=False), GIVEN[name]
    call = PlannedCall("remove pod web", {"pod": "web"}, pin={"pod": "web", "uid": "p", SERVES: False})
    async with peer(world) as server:
        target = far(name, tmp_path, server.url)
        assert (await observe(actions[name], target, call, **given)).happened is EffectStatus.NO
        with pytest.raises(TimedOut):
            await do(actions[name], target, call=call, **given)
        assert (await observe(actions[name], target, call, **given)).happened is EffectStatus.YES
    assert len(world.changes) == 1
