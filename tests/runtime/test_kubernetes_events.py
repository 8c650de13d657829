"""Kubernetes Events for runs, on a real cluster: the output of kubectl, and the result of a failure."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest
import yaml

from remediator.audit import Kind
from remediator.audit.entry import Entry
from remediator.clients.kubernetes.events import ObjectEvent, ObjectReference, event_document
from remediator.core.clock import rfc3339
from remediator.core.plan import PlannedCall
from remediator.errors import Unreachable
from remediator.extensions.platforms.base import Platform
from remediator.extensions.platforms.kubernetes import KubernetesPlatform
from remediator.extensions.platforms.kubernetes_nodes import KubernetesNodesPlatform
from remediator.pipeline.context import PipelineContext
from remediator.playbooks.inventory import Inventory, Service
from remediator.runtime.kubernetes_events import KubernetesEventsExporter
from remediator.runtime.run_export import PermanentlyRefused
from remediator.storage.repositories.attempts import Attempt
from tests.support.servers.kubernetes import Cluster

real = pytest.mark.kubernetes
NOW = datetime.now(UTC)


@pytest.fixture
async def platforms() -> AsyncIterator[dict[str, Platform]]:
    """Return the platforms, and close them after the test."""
    made: dict[str, Platform] = {each.kind: each() for each in (KubernetesPlatform, KubernetesNodesPlatform)}
    yield made
    for platform in made.values():
        await platform.aclose()


def attempt(target: str = "web", **more: Any) -> Attempt:
    """Return an attempt of a run as the store has it."""
    values: dict[str, Any] = {
        "id": "attempt-1", "run_id": "run-7", "step": "restart", "number": 1, "action": "service.restart",
        "playbook": "web-down", "target": target, "mutates": True, "is_undo": False, "fence": 1, "intent_at": NOW,
        "call": {"text": "rollout restart of web", "arguments": {}, "pin": {}}, "outcome": None, "outcome_at": None,
        "result": None,
    }  # fmt: skip
    return Attempt(**{**values, **more})


def entry(kind: Kind, seq: int = 1, age: timedelta = timedelta(0), **data: Any) -> Entry:
    """Return an entry of the audit log about the run."""
    written = rfc3339(NOW - age)
    about: dict[str, Any] = {"run": "run-7", "playbook": "web-down", "actor": "remediator/a", "written": written}
    return cast(Entry, SimpleNamespace(kind=kind.value, seq=seq, data=data, reason=None, **about))


def exporter(
    service: Service, platforms: dict[str, Platform], tried: Sequence[Attempt] = ()
) -> KubernetesEventsExporter:
    """Return the exporter with a store that has these attempts."""

    async def read(work: Any) -> list[Attempt]:
        return list(tried or [attempt(service.name)])

    inventory = Inventory(apiVersion="remediator/v1", kind="Inventory", services={service.name: service})
    context = SimpleNamespace(
        store=SimpleNamespace(read=read),
        clock=SimpleNamespace(now=lambda: NOW),
        playbooks=SimpleNamespace(inventory=inventory),
        platforms=platforms,
    )
    return KubernetesEventsExporter(cast(PipelineContext, context))


class Recorder:
    """A platform that keeps the events instead of writing them."""

    def __init__(self, platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
        self.platform = platform
        self.events: list[ObjectEvent] = []
        monkeypatch.setattr(platform, "write_event", self._write)

    async def _write(self, service: Service, call: PlannedCall, event: ObjectEvent) -> None:
        self.events.append(event)

    def service(self) -> Service:
        """Return a service that does not run on Kubernetes."""
        where = {"kind": "kubernetes", "namespace": "a", "deployment": "web", "kubeconfig": "/no"}
        return Service.model_validate({"name": "web", "platform": where})


@pytest.fixture
def recorded(platforms: dict[str, Platform], monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """Return the events that would be written to Kubernetes."""
    return Recorder(platforms["kubernetes"], monkeypatch)


def web(cluster: Cluster, **binding: Any) -> Service:
    """Deploy a Deployment in the namespace of the test."""
    where = {"kind": "kubernetes", "namespace": cluster.namespace, "kubeconfig": str(cluster.kubeconfig)}
    return Service.model_validate({"name": "web", "platform": {**where, "deployment": "web", **binding}})


def events(cluster: Cluster, *flags: str) -> list[dict[str, Any]]:
    """Return the Events of remediator in the namespace."""
    found = json.loads(cluster.kubectl("get", "events", "--output=json", *flags))["items"]
    return [each for each in found if each["source"].get("component") == "remediator"]


STARTED = entry(Kind.ACTION_INTENDED, 1, attempt="attempt-1")
ENDED = entry(Kind.ACTION_OUTCOME, 2, attempt="attempt-1", outcome="failed", summary="no pod was replaced")
OVER = entry(Kind.RUN_TRANSITION, 3, to="escalated", detail={})


@real
async def test_what_a_run_does_is_shown_on_its_deployment(cluster: Cluster, platforms: dict[str, Platform]) -> None:
    """The Event has reason, message, type and controller, and ``kubectl describe`` shows it; a repeated export adds no
    Event."""
    cluster.deploy("web", "sleep 1000", replicas=0)
    send = exporter(web(cluster), platforms).send
    for each in (STARTED, ENDED, OVER, STARTED):
        await send(each)
    found = {each["reason"]: each for each in events(cluster)}
    assert len(events(cluster)) == 3
    started = found["ActionStarted"]
    assert started["message"] == "rollout restart of web (run run-7, playbook web-down)"
    assert (started["type"], started["action"]) == ("Normal", "service.restart")
    assert (started["reportingComponent"], started["reportingInstance"]) == ("remediator", "remediator/a")
    assert (found["ActionFailed"]["type"], found["Escalated"]["type"]) == ("Warning", "Warning")
    assert "service.restart: no pod was replaced" in found["ActionFailed"]["message"]
    described = cluster.kubectl("describe", "deployment", "web")
    assert "ActionStarted" in described and "no pod was replaced" in described


@real
async def test_the_events_of_a_node_are_on_the_node(cluster: Cluster, platforms: dict[str, Platform]) -> None:
    """Events of a node are in the namespace ``default``, like Events of the kubelet."""
    name = f"{cluster.namespace}-a"
    cluster.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})
    try:
        uid = cluster.get("node", name)["metadata"]["uid"]
        platform = {"kind": "kubernetes_nodes", "nodes": [name], "kubeconfig": str(cluster.kubeconfig)}
        service = Service.model_validate({"name": "workers", "platform": platform})
        call = {"text": f"cordon node {name}", "arguments": {"node": name}, "pin": {"uid": uid}}
        tried = [attempt("workers", action="node.cordon", call=call)]
        await exporter(service, platforms, tried).send(STARTED)
        assert f"cordon node {name} (run run-7" in cluster.kubectl("describe", "node", name)
    finally:
        cluster.kubectl("delete", "node", name)
        selector = f"--field-selector=involvedObject.name={name}"
        cluster.kubectl("delete", "events", "--namespace=default", selector)


@real
async def test_an_event_without_the_right_is_dropped(
    cluster: Cluster, platforms: dict[str, Platform], tmp_path: Any
) -> None:
    """Without the right or the Deployment, the event is dropped and reported, and nothing else changes."""
    cluster.deploy("web", "sleep 1000", replicas=0)
    read = {"apiGroups": ["", "apps"], "resources": ["*"], "verbs": ["get", "list"]}
    token = cluster.account("reader", read)
    config = yaml.safe_load(cluster.kubeconfig.read_text())
    config["users"] = [{**each, "user": {"token": token}} for each in config["users"]]
    (tmp_path / "config").write_text(yaml.safe_dump(config))
    with pytest.raises(PermanentlyRefused, match="Forbidden"):
        await exporter(web(cluster, kubeconfig=str(tmp_path / "config")), platforms).send(STARTED)
    with pytest.raises(PermanentlyRefused, match="not found"):
        await exporter(web(cluster, deployment="gone"), platforms).send(STARTED)
    assert events(cluster) == []


async def test_an_unreachable_cluster_is_a_temporary_error(platforms: dict[str, Platform], tmp_path: Any) -> None:
    """`send` raises Unreachable, so the loop retries later."""
    config = {
        "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}],
        "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "m", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "m",
    }
    (tmp_path / "config").write_text(yaml.safe_dump(config))
    where = {"kind": "kubernetes", "namespace": "a", "deployment": "web", "kubeconfig": str(tmp_path / "config")}
    service = Service.model_validate({"name": "web", "platform": where})
    with pytest.raises(Unreachable):
        await exporter(service, platforms).send(STARTED)


@pytest.mark.parametrize(
    "quiet",
    [
        entry(Kind.EVIDENCE, name="x"),
        entry(Kind.ACTION_OUTCOME, step="restart", skipped="the condition does not hold"),
        entry(Kind.ACTION_OUTCOME, attempt="attempt-9", outcome="ok"),
        entry(Kind.RUN_TRANSITION, to="planned"),
        entry(Kind.ACTION_INTENDED, age=timedelta(hours=2), attempt="attempt-1"),
    ],
)
async def test_only_actions_become_events(quiet: Entry, recorded: Recorder) -> None:
    """Entries that are no actions, or are older than the retention of Events, are not exported."""
    service, platforms = recorded.service(), {"kubernetes": recorded.platform}
    await exporter(service, platforms).send(quiet)
    assert recorded.events == []
    await exporter(service, platforms).send(STARTED)
    assert [event.reason for event in recorded.events] == ["ActionStarted"]


async def test_a_removed_service_gets_no_event(recorded: Recorder) -> None:
    """If the inventory no longer has the service, no Event is written."""
    service, platforms = recorded.service(), {"kubernetes": recorded.platform}
    await exporter(service, platforms, [attempt("gone")]).send(STARTED)
    assert recorded.events == []
    await exporter(service, platforms, [attempt("web")]).send(STARTED)
    assert [event.reason for event in recorded.events] == ["ActionStarted"]


def test_a_message_fits_and_stays_text() -> None:
    """A message has at most 1024 bytes, and no character is cut."""
    about = ObjectReference("v1", "Node", "n", "uid")
    event = ObjectEvent("k", NOW, "ActionStarted", "ä" * 1000 + "<b>", False, "a", "i")
    document = event_document(about, event)
    assert document["message"] == "ä" * 512
    assert document == event_document(about, event)
    assert document["metadata"]["name"] != event_document(ObjectReference("v1", "Node", "n", "other"), event)
