"""The console's pages: overview, runs, playbooks, audit log, inventory. They only read; see :mod:`form_actions`."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import Response

from remediator.audit import Head, NotCanonical, SealedEntry, decode
from remediator.core.approval import Permission
from remediator.core.plan import Plan
from remediator.core.run import Episode, EpisodeKind, EpisodeStatus, Run, Status
from remediator.extensions.guards._stop_file import read_stop_file
from remediator.playbooks.model import Playbook
from remediator.reporting import outcome_text, request_text, run_timeline
from remediator.reporting.charts import lay_out_dependencies
from remediator.reporting.incidents import Incident, load_incident
from remediator.reporting.run_timeline import RunTimeline
from remediator.runtime import checkpointing
from remediator.runtime.retention import live_log_start
from remediator.runtime.settings import archive_folder
from remediator.service import watchdog_max_silence
from remediator.storage.repositories import (
    approvals,
    audit,
    autonomy,
    breakers,
    episodes,
    key_values,
    outbox,
    runs,
    stops,
)
from remediator.storage.repositories.approvals import Approval
from remediator.web import paging
from remediator.web.authentication import RequestIdentity
from remediator.web.paging import Position
from remediator.web.site import Handler, Site

PAGE_SIZE = 50
_MAX_LISTED = 200


@dataclass(frozen=True, slots=True)
class Overview:
    """The current state, from one snapshot of the store."""

    firing: Sequence[Episode]
    runs_of: Mapping[str, Sequence[str]]
    """IDs of the runs of each firing episode."""
    open_runs: Sequence[Run]
    pending: Sequence[tuple[Approval, Run | None]]
    stops: Sequence[stops.Stop]
    recent: Sequence[Run]
    dead: Sequence[outbox.OutboxMessage]
    watchdog_at: datetime | None
    watchdog_problem: str
    """Why alerts may be missing; empty if the Watchdog alert arrives."""
    head: int


def overview(site: Site) -> Handler:
    """Return the handler of ``GET /``."""

    async def get(request: Request, identity: RequestIdentity) -> Response:
        now, max_silence = site.now, watchdog_max_silence(site.service.config)
        state = await site.service.context.store.read(lambda connection: _overview(connection, now, max_silence))
        return site.render(
            request,
            identity,
            "overview.html",
            state=state,
            stop_file=read_stop_file(site.service.config.state),
            may_stop=identity.may(Permission.CREATE_STOP),
            may_release=identity.may(Permission.RELEASE_STOP),
            playbooks=sorted(playbook.name for playbook in site.service.context.playbooks.active),
            services=sorted(site.service.context.playbooks.inventory.services),
            live=True,
        )

    return site.page(get)


def _overview(connection: Connection, now: datetime, max_silence: timedelta | None) -> Overview:
    firing = [
        item
        for item in episodes.list_open(connection, _MAX_LISTED)
        if item.status is EpisodeStatus.FIRING and item.kind is EpisodeKind.ALERT
    ]
    watchdog = key_values.get(connection, key_values.WATCHDOG)
    return Overview(
        firing,
        episodes.run_ids_by_episode(connection, [item.id for item in firing]),
        runs.list_page(connection, _MAX_LISTED, open_only=True),
        [(item, runs.get(connection, item.run_id)) for item in approvals.list_pending(connection, 50)],
        stops.list_active(connection, now),
        [run for run in runs.list_page(connection, 12) if run.finished_at is not None],
        outbox.list_dead(connection, 5),
        None if watchdog is None else watchdog.at,
        key_values.watchdog_problem(connection, now, max_silence),
        audit.get_head(connection).seq,
    )


def run_history(site: Site) -> Handler:
    """Return the handler of ``GET /runs``: search, filters and paging."""

    async def get(request: Request, identity: RequestIdentity) -> Response:
        query = request.query_params
        filters = {name: query.get(name, "").strip()[:200] or None for name in ("playbook", "target", "status")}
        search = query.get("q", "").strip()[:200]
        before = paging.parse_cursor(query.get("before", ""))
        found = await site.service.context.store.read(lambda connection: _search(connection, search, filters, before))
        shown = found[:PAGE_SIZE]
        return site.render(
            request,
            identity,
            "runs.html",
            runs=shown,
            filters=filters,
            search=search,
            cursor=paging.cursor_after(shown[-1]) if len(found) > PAGE_SIZE else "",
            first=before is None,
            statuses=[status.value for status in Status],
            playbooks=[playbook.name for playbook in site.service.context.playbooks.active],
            targets=sorted(site.service.context.playbooks.inventory.services),
            live=False,
        )

    return site.page(get)


def _search(
    connection: Connection, search: str, filters: Mapping[str, str | None], before: Position | None
) -> list[Run]:
    """Return one run more than a page: by filters, and by the ID of a run or episode, or the name of a service,
    playbook or alert."""
    if not search:
        return _by_filters(connection, filters, before)
    exact = runs.get(connection, search)
    if exact is not None:
        return [exact]
    of_alert = episodes.run_ids_of_alert(connection, search, PAGE_SIZE + 1, before, **filters)
    found = {run.id: run for run_id in of_alert if (run := runs.get(connection, run_id)) is not None}
    for field in ("playbook", "target"):
        if filters[field] not in (None, search):
            continue  # the filter asks for another name, so no run matches both
        more = _by_filters(connection, {**filters, field: search}, before)
        found.update((run.id, run) for run in more)
    return sorted(found.values(), key=lambda run: (run.created_at, run.id), reverse=True)[: PAGE_SIZE + 1]


def _by_filters(connection: Connection, filters: Mapping[str, str | None], before: Position | None) -> list[Run]:
    playbook, target, status = (filters[name] for name in ("playbook", "target", "status"))
    return runs.list_page(connection, PAGE_SIZE + 1, before, playbook=playbook, target=target, status=status)


def run_page(site: Site) -> Handler:
    """Return the handler of ``GET /runs/<id>``: timeline, exact calls, evidence, verdicts, attempts and messages."""

    async def get(request: Request, identity: RequestIdentity) -> Response:
        run_id = request.path_params["run_id"]
        read = await site.service.context.store.read(lambda connection: _read_run(connection, run_id))
        if read is None:
            text = await asyncio.to_thread(run_timeline.missing_run_hint, run_id, archive_folder(site.service.config))
            return site.error_page(request, identity, 404, "Run not found", text)
        timeline, latest, sent, archived, incident = read
        run = timeline.run
        plan: Plan | None = None if run.plan is None else run.plan
        ended = run.finished_at is not None
        return site.render(
            request,
            identity,
            "run.html",
            run=run,
            timeline=timeline,
            plan=plan,
            approval=latest,
            sent=sent,
            archived=archived,
            incident=incident,
            result=outcome_text.result_lines(run, timeline.attempts, timeline.evidence),
            items=timeline_items(timeline),
            fires=list(request_text.alert_lines(timeline.alerts, site.now)),
            has_chart=site.service.clients.prometheus is not None and bool(timeline.alerts),
            may_cancel=identity.may(Permission.CANCEL) and (not ended or run.holds_target),
            may_retry=identity.may(Permission.RETRY) and ended and run.incident_open,
            live=not ended,
        )

    return site.page(get)


def _read_run(
    connection: Connection, run_id: str
) -> tuple[RunTimeline, Approval | None, Sequence[outbox.OutboxMessage], bool, Incident | None] | None:
    """Return the timeline, the latest request, the messages, whether entries are archived, and the incident."""
    timeline = run_timeline.load_timeline(connection, run_id)
    if timeline is None:
        return None
    archived = live_log_start(connection).seq > 0 and not any(event.kind == "run.matched" for event in timeline.events)
    incident = load_incident(connection, timeline.run.incident_id)
    return (
        timeline,
        approvals.get_latest(connection, run_id),
        outbox.list_for_run(connection, run_id),
        archived,
        incident,
    )


_STAGE_OF = (
    ("receive", ("episode.", "notification.")),
    ("match", ("run.matched",)),
    ("plan", ("run.planned",)),
    ("guard", ("guard.", "circuit_breaker.")),
    ("approve", ("approval.",)),
    ("act", ("action.",)),
    ("verify", ("verification",)),
    ("people", ("message.", "operator.")),
)
"""The stage of an audit entry, by the beginning of its kind."""


@dataclass(frozen=True, slots=True)
class TimelineItem:
    """One event of a run, with the stage of the pipeline that it belongs to."""

    at: datetime
    stage: str
    text: str
    kind: str


def timeline_items(timeline: RunTimeline) -> list[TimelineItem]:
    """Return the events of a run with their stages. A transition belongs to the stage of the event before it."""
    items: list[TimelineItem] = []
    stage = "match"
    for event in timeline.events:
        stage = next((name for name, prefixes in _STAGE_OF if event.kind.startswith(prefixes)), stage)
        if event.kind == "evidence":
            stage = {"diagnose": "plan", "verify": "verify"}.get(event.text.partition(" ")[0], stage)
        items.append(TimelineItem(event.at, stage, request_text.sanitize(event.text, 2000), event.kind))
    return items


@dataclass(frozen=True, slots=True)
class PlaybookStatus:
    """A playbook with its mode, circuit breaker and results."""

    playbook: Playbook
    mode: str
    change: autonomy.ModeOverride | None
    """The latest change of the mode by an operator or a circuit breaker."""
    breaker: tuple[str, str, datetime] | None
    """Reason, scope and time, if the circuit breaker is open."""
    results: Mapping[str, int]
    """Number of runs by status."""

    @property
    def ended(self) -> int:
        """Number of recent runs that acted and ended."""
        return sum(self.results.get(status, 0) for status in ("succeeded", "failed", "escalated"))

    @property
    def success_rate(self) -> int | None:
        """Percentage of these runs that succeeded; None if there are none."""
        return None if not self.ended else round(100 * self.results.get("succeeded", 0) / self.ended)


def playbooks(site: Site) -> Handler:
    """Return the handler of ``GET /playbooks``: success rate, mode and circuit breaker of each playbook."""

    def read(connection: Connection) -> list[PlaybookStatus]:
        loaded = site.service.context.playbooks
        tripped = breakers.list_tripped(connection)
        return [
            PlaybookStatus(
                playbook,
                autonomy.effective_mode(connection, playbook.name, playbook.mode_in(loaded.environment)),
                autonomy.get_override(connection, playbook.name),
                tripped.get(playbook.name),
                runs.count_by_status(connection, playbook.name),
            )
            for playbook in loaded.active
        ]

    async def get(request: Request, identity: RequestIdentity) -> Response:
        listed = await site.service.context.store.read(read)
        return site.render(request, identity, "playbooks.html", listed=listed, modes=autonomy.MODES, live=False)

    return site.page(get)


@dataclass(frozen=True, slots=True)
class AuditRow:
    """One entry of the audit log, as shown."""

    seq: int
    time: datetime
    hash: str
    kind: str
    actor: str
    reason: str
    run: str | None
    data: str


def audit_log(site: Site) -> Handler:
    """Return the handler of ``GET /audit``: entries, newest first, with a consistency check of what is shown."""

    async def get(request: Request, identity: RequestIdentity) -> Response:
        query = request.query_params
        filters = {name: query.get(name, "").strip()[:64] or None for name in ("run", "kind")}
        cursor = query.get("before", "")
        before = int(cursor) if cursor.isascii() and cursor.isdigit() and len(cursor) < 18 else None
        found = await site.service.context.store.read(lambda connection: _audit(connection, filters, before))
        return site.render(request, identity, "audit.html", filters=filters, live=False, **found)

    return site.page(get)


def _audit(connection: Connection, filters: Mapping[str, str | None], before: int | None) -> dict[str, Any]:
    found = audit.list_newest(connection, PAGE_SIZE + 1, before, **filters)
    shown = found[:PAGE_SIZE]
    head, checkpoint = audit.get_head(connection), key_values.get(connection, checkpointing.LATEST_CHECKPOINT)
    return {
        "rows": [_audit_row(item) for item in shown],
        "head": head,
        "head_hash": head.hash.hex(),
        "broken": _first_broken(shown, head, newest=before is None, all_entries=not any(filters.values())),
        "cursor": shown[-1].seq if len(found) > PAGE_SIZE else None,
        "checkpoint": None if checkpoint is None else checkpoint.value,
        "archived": live_log_start(connection).seq,
    }


def _first_broken(shown: Sequence[SealedEntry], head: Head, *, newest: bool, all_entries: bool) -> int | None:
    """Return the number of the first entry that is not consistent, or None.

    Every entry must match its hash. Without filters, every entry must also follow the one before it, and the newest
    page must end where the head says that the log ends: otherwise the last entries were deleted.
    """
    found = audit.find_broken(shown, contiguous=all_entries)
    if found is not None or not newest or not all_entries:
        return found
    ends_at_head = [(row.seq, row.hash) for row in shown[:1]] == [(head.seq, head.hash)]
    return None if ends_at_head or not head.seq else head.seq


def _audit_row(item: SealedEntry) -> AuditRow:
    known = (item.seq, item.time, item.hash.hex(), item.kind)
    data = request_text.sanitize(item.canonical.decode("utf-8", "replace"), 6000)
    try:
        entry = decode(item.canonical)
    except NotCanonical:  # the database was changed: the entry is shown, and reported as broken
        return AuditRow(*known, "cannot be read", "", item.run, data)
    return AuditRow(*known, entry.actor, entry.reason or "", entry.run, data)


def inventory(site: Site) -> Handler:
    """Return the handler of ``GET /inventory``: the services and the graph of their dependencies."""

    async def get(request: Request, identity: RequestIdentity) -> Response:
        loaded = site.service.context.playbooks.inventory
        holders = await site.service.context.store.read(runs.list_lock_holders)
        listed = await site.service.context.store.read(lambda connection: episodes.list_open(connection, _MAX_LISTED))
        services = dict(sorted(loaded.services.items()))
        drawn = lay_out_dependencies(
            {name: list(service.depends_on) for name, service in services.items()},
            {name: service.platform.kind for name, service in services.items()},
        )
        firing = {
            service.name
            for item in listed
            if item.status is EpisodeStatus.FIRING
            for service in loaded.services_for(item.labels)
        }
        locks = {run.target: run for run in holders}
        return site.render(
            request, identity, "inventory.html", services=services, drawn=drawn, firing=firing, locks=locks, live=False
        )

    return site.page(get)
