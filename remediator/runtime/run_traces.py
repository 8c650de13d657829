"""Send one trace for each ended run to a collector of OpenTelemetry, made from the run's entries in the audit log."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import requests
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from remediator import __version__
from remediator.audit import Kind, decode
from remediator.audit.entry import Entry
from remediator.clients.egress import proxy_for
from remediator.clients.endpoints import read_secret
from remediator.core import run as core_run
from remediator.core.clock import to_micros
from remediator.core.export_settings import Tracing
from remediator.core.trace_context import span_id, trace_id
from remediator.errors import ClientError
from remediator.storage import Store
from remediator.storage.repositories import audit

_SECONDS = 10.0
_LONGEST_TEXT = 300
_ENDED = {status.value for status in core_run.TERMINAL}
_RESULT = {"succeeded": StatusCode.OK, "failed": StatusCode.ERROR, "escalated": StatusCode.ERROR}
Attributes = dict[str, str | int | float | bool]


class RunTraceExporter:
    """Sends the trace of a run when the entry of its end is read.

    Args:
        settings: the collector.
        store: has the entries of the run.
        environment: value of the attribute ``deployment.environment.name``.
    """

    name = "traces"

    def __init__(self, settings: Tracing, store: Store, environment: str) -> None:
        self._settings, self._store = settings, store
        self._resource = Resource.create(
            {
                "service.name": settings.service_name,
                "service.version": __version__,
                "deployment.environment.name": environment,
            }
        )

    async def send(self, entry: Entry) -> None:
        """Send the trace of a run, if the entry is its end.

        Raises:
            ClientError: the collector did not take it.
            OSError, ValueError: a file of the settings cannot be read.
        """
        run = entry.run
        if run is None or entry.kind != Kind.RUN_TRANSITION.value or entry.data["to"] not in _ENDED:
            return
        found = await self._store.read(lambda connection: audit.list_for_run(connection, run))
        entries = [decode(item.canonical) for item in found if item.seq <= entry.seq]
        await asyncio.to_thread(self._export, list(spans(entries, self._resource)))

    def _export(self, made: Sequence[ReadableSpan]) -> None:
        """Send spans; this blocks. A client for each trace: the files of the settings may have changed."""
        session = requests.Session()
        session.trust_env = False
        if proxy := proxy_for(self._settings.url):
            session.proxies = {"http": proxy, "https": proxy}
        exporter = OTLPSpanExporter(
            endpoint=self._settings.url,
            headers={name: read_secret(path) for name, path in self._settings.header_files.items()},
            certificate_file=None if self._settings.ca_file is None else str(self._settings.ca_file),
            timeout=_SECONDS,
            session=session,
        )
        with session:
            if exporter.export(made) is not SpanExportResult.SUCCESS:
                raise ClientError(
                    f"the collector {self._settings.url} did not take the trace; its reason is in the log"
                )


def spans(entries: Sequence[Entry], resource: Resource) -> Iterator[ReadableSpan]:
    """Yield the spans of a run: the whole run, each status, and each call of an action.

    Args:
        entries: all entries of the run until its end, oldest first.
        resource: what the spans are about.
    """
    first, last = entries[0], entries[-1]
    run, result = str(first.run), str(last.data["to"])
    maker = _SpanMaker(run, resource)
    about = {"run": run, "playbook": last.playbook, "playbook_hash": last.playbook_hash, "result": result}
    matched = next((entry.data for entry in entries if entry.kind == Kind.RUN_MATCHED.value), {})
    yield maker.make(
        f"run {last.playbook}", "", (first, last), about | matched | {"reason": last.reason}, code=_RESULT.get(result)
    )
    changes = [entry for entry in entries if entry.kind == Kind.RUN_TRANSITION.value]
    begins = [first, *changes[:-1]]
    others = [entry for entry in entries if entry.kind not in (Kind.RUN_TRANSITION.value, Kind.RUN_MATCHED.value)]
    for number, (begin, end) in enumerate(zip(begins, changes, strict=True)):
        status, upper = str(end.data["from"]), end.seq
        inside = [entry for entry in others if begin.seq < entry.seq < upper]
        yield maker.make(
            status, f"status {number}", (begin, end), {"reason": begin.reason, "status": status}, inside=inside
        )
    yield from _calls(maker, entries, [entry.seq for entry in begins])


def _calls(maker: _SpanMaker, entries: Sequence[Entry], begins: Sequence[int]) -> Iterator[ReadableSpan]:
    """Yield a span for each call, below the status in which it began. A call without a result ends with the run."""
    for entry in entries:
        if entry.kind != Kind.ACTION_INTENDED.value:
            continue
        attempt = entry.data["attempt"]
        end = next(
            (
                later
                for later in entries
                if later.kind in (Kind.ACTION_OUTCOME.value, Kind.ACTION_OBSERVED.value)
                and later.data.get("attempt") == attempt
            ),
            entries[-1],
        )
        outcome = str(end.data.get("outcome", end.data.get("happened", "unknown")))
        about = {**entry.data, "outcome": outcome, "summary": end.data.get("summary", "")}
        code = StatusCode.OK if outcome == "ok" else StatusCode.ERROR
        parent = f"status {bisect_right(begins, entry.seq) - 1}"
        yield maker.make(
            f"action {entry.data['action']}", f"attempt {attempt}", (entry, end), about, code=code, parent=parent
        )


class _SpanMaker:
    """Makes the spans of one run."""

    def __init__(self, run: str, resource: Resource) -> None:
        self._run, self._resource = run, resource

    def make(
        self,
        name: str,
        part: str,
        between: tuple[Entry, Entry],
        about: Mapping[str, Any],
        *,
        inside: Sequence[Entry] = (),
        code: StatusCode | None = None,
        parent: str = "",
    ) -> ReadableSpan:
        """Return a span. Its parent is another part of the run; the part without a name has no parent."""
        begin, end = between
        return ReadableSpan(
            name=name,
            context=self._context(part),
            parent=self._context(parent) if part else None,
            resource=self._resource,
            attributes=_attributes(about),
            events=[Event(entry.kind, _attributes(entry.data), _nanoseconds(entry)) for entry in inside],
            kind=SpanKind.INTERNAL,
            status=Status(StatusCode.UNSET if code is None else code),
            start_time=_nanoseconds(begin),
            end_time=_nanoseconds(end),
        )

    def _context(self, part: str) -> SpanContext:
        return SpanContext(trace_id(self._run), span_id(self._run, part), False, TraceFlags(TraceFlags.SAMPLED))


def _nanoseconds(entry: Entry) -> int:
    return to_micros(entry.time) * 1000


def _attributes(data: Mapping[str, Any]) -> Attributes:
    """Return the simple values of an entry. The audit log has no secrets, so traces have no secrets either."""
    return {
        f"remediator.{name}": value[:_LONGEST_TEXT] if isinstance(value, str) else value
        for name, value in data.items()
        if isinstance(value, str | int | float)
    }
