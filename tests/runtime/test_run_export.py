"""Traces and events of runs: made from the audit log, sent at least once, and without an effect on a run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from pydantic import ValidationError

from remediator.audit import Draft, Kind
from remediator.clients.endpoints import Endpoint
from remediator.clients.http import HttpClient
from remediator.core import trace_context
from remediator.core.export_settings import CloudEvents, Tracing
from remediator.pipeline.context import StageResult
from remediator.pipeline.run_context import Origin
from remediator.runtime import worker as worker_module
from remediator.runtime.cloud_events import CloudEventsExporter
from remediator.runtime.run_export import GIVE_UP, LEASE, ExportLoop, RunExporter
from remediator.runtime.run_traces import RunTraceExporter
from remediator.storage.repositories import runs
from tests.support.servers.receivers import Receiver, receiver
from tests.support.web_service import WebService, web_service

pytestmark = pytest.mark.promise(14)
RUN = "run-7"


@pytest.fixture
async def web(tmp_path: Path) -> AsyncIterator[WebService]:
    """Return a service without its loops."""
    folder = tmp_path / "service"
    folder.mkdir()
    async with web_service(folder) as made:
        yield made


@pytest.fixture
def traced() -> Iterator[None]:
    """Switch tracing on, as the setting ``tracing`` does."""
    trace_context.configure(True)
    yield
    trace_context.configure(False)
    trace_context.follow("")


def _draft(kind: Kind, data: dict[str, Any], reason: str | None = None, run: str = RUN) -> Draft:
    return Draft(kind=kind, actor="remediator/a", run=run, playbook="redis-down", reason=reason, data=data)


def _moved(before: str, after: str, reason: str | None = None, run: str = RUN) -> Draft:
    return _draft(Kind.RUN_TRANSITION, {"from": before, "to": after, "detail": {}}, reason, run)


STORY = (
    _draft(Kind.RUN_MATCHED, {"target": "redis", "mode": "auto", "incident": "incident-1"}),
    _draft(Kind.EVIDENCE, {"phase": "diagnose", "name": "ping", "status": "fail", "summary": "no answer", "facts": {}}),
    _moved("matched", "planned"),
    _moved("planned", "running"),
    _draft(
        Kind.ACTION_INTENDED,
        {"attempt": "attempt-1", "step": "restart", "action": "service.restart", "target": "redis", "call": {"a": 1}},
    ),
    _draft(Kind.ACTION_OUTCOME, {"attempt": "attempt-1", "step": "restart", "outcome": "ok", "summary": "restarted"}),
    _moved("running", "verifying"),
    _moved("verifying", "succeeded", "verified"),
)


async def write(web: WebService, *drafts: Draft) -> None:
    """Write entries, each at its own time."""
    for draft in drafts:
        web.clock.time = web.clock.now() + timedelta(seconds=1)
        await web.context.store.write(lambda tx, draft=draft: tx.append_audit(draft))


async def started(web: WebService, exporter: RunExporter) -> ExportLoop:
    """Start a loop and wait for its first turn, so later entries are sent."""
    loop = ExportLoop(web.context, exporter, web.service.health)
    await loop.export_new()
    return loop


def events(web: WebService, webhook: Receiver, **more: Any) -> CloudEventsExporter:
    """Return an exporter to the webhook."""
    return CloudEventsExporter(CloudEvents(url=f"{webhook.url}/hook?x=1", **more), "remediator/test")


async def test_each_change_of_status_is_one_cloud_event(web: WebService, tmp_path: Path) -> None:
    """Each event is a CloudEvent 1.0 in structured mode, in order; other entries and entries before the start are not
    sent."""
    await write(web, _moved("matched", "planned", run="run-before"))
    token = tmp_path / "token"
    token.write_text("secret-token\n")
    with receiver() as webhook:
        loop = await started(web, events(web, webhook, token_file=token))
        await write(web, *STORY)
        await loop.export_new()
        assert not await loop.export_new()
    bodies = [call.json for call in webhook.received]
    assert [body["type"] for body in bodies] == [
        f"remediator.run.{status}" for status in ("matched", "planned", "running", "verifying", "succeeded")
    ]
    first, last = webhook.received[0], bodies[-1]
    assert first.path == "/hook?x=1"
    assert first.headers["content-type"] == "application/cloudevents+json; charset=UTF-8"
    assert first.headers["authorization"] == "Bearer secret-token"
    assert {key: last[key] for key in ("specversion", "source", "subject", "datacontenttype")} == {
        "specversion": "1.0",
        "source": "/remediator/test",
        "subject": RUN,
        "datacontenttype": "application/json",
    }
    assert last["traceparent"] == trace_context.traceparent(RUN)
    assert len({body["id"] for body in bodies}) == len(bodies)
    assert last["data"]["from"] == "verifying"
    assert last["data"]["reason"] == "verified"
    assert last["data"]["playbook"] == "redis-down"


async def test_a_receiver_that_does_not_answer_gets_the_events_later(web: WebService) -> None:
    """The events arrive later in order, and the health reports the delay."""
    with receiver() as webhook:
        loop = await started(web, events(web, webhook))
        await write(web, *STORY)
        webhook.answers = [(200, {}, b""), (503, {}, b"busy"), (200, {}, b"")]
        await loop.export_new()
        assert "503" in web.service.health.problems()["export cloud events"]
        while await loop.export_new():
            pass
        await loop.export_new()
        assert "export cloud events" not in web.service.health.problems()
    types = [call.json["type"].rpartition(".")[2] for call in webhook.received]
    assert types == ["matched", "planned", "planned", "running", "verifying", "succeeded"]


async def test_a_refused_event_does_not_delay_the_others(web: WebService) -> None:
    """A status such as 400 would be the same after a retry, so the event is dropped."""
    with receiver() as webhook:
        loop = await started(web, events(web, webhook))
        await write(web, *STORY)
        webhook.answers = [(400, {}, b"no"), (200, {}, b"")]
        await loop.export_new()
    assert len(webhook.received) == 5
    assert web.service.health.losses["export cloud events"].count == 1


async def test_an_entry_that_fails_for_an_hour_is_left_out(web: WebService) -> None:
    """Without this, one invalid entry would stop the export forever."""
    with receiver() as webhook:
        loop = await started(web, events(web, webhook))
        await write(web, STORY[0])
        webhook.answers = [(500, {}, b"")]
        await loop.export_new()
        web.clock.time = web.clock.now() + GIVE_UP
        await loop.export_new()
        webhook.answers = [(200, {}, b"")]
        await write(web, STORY[2])
        await loop.export_new()
    assert [call.json["data"]["status"] for call in webhook.received] == ["matched", "matched", "planned"]


async def test_one_replica_exports_at_a_time(web: WebService) -> None:
    """Another replica continues from the stored position after the lease has ended."""
    with receiver() as webhook:
        first = await started(web, events(web, webhook))
        await write(web, *STORY[:3])
        await first.export_new()
        web.context.replica = "replica-2"
        second = ExportLoop(web.context, events(web, webhook), web.service.health)
        await write(web, STORY[3])
        assert not await second.export_new()
        assert len(webhook.received) == 2
        web.clock.time = web.clock.now() + LEASE + timedelta(seconds=1)
        await second.export_new()
    assert [call.json["data"]["status"] for call in webhook.received] == ["matched", "planned", "running"]


def _spans(collector: Receiver) -> list[Any]:
    request = ExportTraceServiceRequest()
    request.ParseFromString(collector.received[-1].body)
    (resource,) = request.resource_spans
    attributes = {item.key: item.value.string_value for item in resource.resource.attributes}
    assert attributes["service.name"] == "remediator"
    assert attributes["deployment.environment.name"] == "test"
    return list(resource.scope_spans[0].spans)


async def test_an_ended_run_is_one_trace(web: WebService, tmp_path: Path) -> None:
    """The trace has a span of the run, a span per status, and a span of the action; nothing is sent before the end of
    the run."""
    key = tmp_path / "key"
    key.write_text("k1")
    with receiver() as collector:
        settings = Tracing(url=f"{collector.url}/v1/traces", header_files={"x-api-key": key})
        loop = await started(web, RunTraceExporter(settings, web.context.store, "test"))
        await write(web, *STORY[:-1])
        await loop.export_new()
        assert collector.received == []
        await write(web, STORY[-1])
        await loop.export_new()
        assert len(collector.received) == 1
        assert collector.received[0].path == "/v1/traces"
        assert collector.received[0].headers["x-api-key"] == "k1"
        spans = {span.name: span for span in _spans(collector)}
    assert list(spans) == ["run redis-down", "matched", "planned", "running", "verifying", "action service.restart"]
    root = spans["run redis-down"]
    assert root.trace_id == trace_context.trace_id(RUN).to_bytes(16)
    assert root.span_id == trace_context.span_id(RUN).to_bytes(8)
    assert root.parent_span_id == b""
    assert root.end_time_unix_nano - root.start_time_unix_nano == 7_000_000_000
    assert {span.trace_id for span in spans.values()} == {root.trace_id}
    for status in ("matched", "planned", "running", "verifying"):
        assert spans[status].parent_span_id == root.span_id
    action = spans["action service.restart"]
    assert action.parent_span_id == spans["running"].span_id
    assert action.end_time_unix_nano - action.start_time_unix_nano == 1_000_000_000
    assert [event.name for event in spans["matched"].events] == ["evidence"]
    attributes = {item.key: item.value.string_value for item in root.attributes}
    assert attributes["remediator.target"] == "redis"
    assert attributes["remediator.result"] == "succeeded"


async def test_a_collector_that_is_down_loses_no_trace(web: WebService) -> None:
    """The trace is sent when the collector is available again, long after the end of the run."""
    with receiver() as collector:
        loop = await started(web, RunTraceExporter(Tracing(url=collector.url), web.context.store, "test"))
        await write(web, *STORY)
        collector.answers = [(400, {}, b"")]
        await loop.export_new()
        assert "did not take the trace" in web.service.health.problems()["export traces"]
        collector.answers = [(200, {}, b"")]
        await loop.export_new()
        assert len(_spans(collector)) == 6


@pytest.mark.usefixtures("traced")
async def test_requests_of_a_run_have_the_header_traceparent() -> None:
    """The header names the span of the whole run; a request outside of a run has no such header."""
    with receiver() as server:
        client = HttpClient(Endpoint(url=server.url))
        await client.call("POST", "/outside")
        trace_context.follow(RUN)
        await client.call("POST", "/inside")
        trace_context.configure(False)
        await client.call("POST", "/off")
        await client.aclose()
    found = [call.headers.get("traceparent") for call in server.received]
    trace, span = trace_context.trace_id(RUN), trace_context.span_id(RUN)
    assert found == [None, f"00-{trace:032x}-{span:016x}-01", None]


@pytest.mark.usefixtures("traced")
async def test_the_worker_works_on_a_run_within_its_trace(web: WebService, monkeypatch: pytest.MonkeyPatch) -> None:
    """The requests of every stage of the run have the header."""
    asked = await web.request_approval()
    seen: list[str] = []

    async def advance(context: object, run: Any, *more: Any) -> StageResult:
        seen.append(trace_context.headers()["traceparent"])
        return StageResult(run, waits=True)

    monkeypatch.setattr(worker_module, "advance", advance)
    run = await web.context.store.read(lambda connection: runs.get(connection, asked.run_id))
    assert run is not None
    await web.service.worker._process(run, Origin.CLAIMED, ())
    assert seen == [trace_context.traceparent(asked.run_id)]


@pytest.mark.parametrize(
    ("model", "given"),
    [
        (CloudEvents, {}),
        (CloudEvents, {"url": "ftp://a/"}),
        (Tracing, {"url": ""}),
        (Tracing, {"url": "collector:4317"}),
    ],
)
def test_a_wrong_address_is_refused(model: type[Any], given: dict[str, str]) -> None:
    """The settings are refused when they are loaded, not at the end of the first run."""
    with pytest.raises(ValidationError):
        model.model_validate(given)
