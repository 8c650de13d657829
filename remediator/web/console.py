"""The console's pages: now, runs, playbooks, audit, inventory. Looking only; forms are in :mod:`controls`."""

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
from remediator.core.plan import Plan, from_data
from remediator.core.run import Episode, EpisodeStatus, Run, Status
from remediator.extensions.guards._stop_file import read_stop_file
from remediator.playbooks.model import Playbook
from remediator.reporting import messages, run_timeline
from remediator.reporting.run_timeline import RunTimeline
from remediator.runtime import checkpointing
from remediator.runtime.retention import begin
from remediator.runtime.settings import archive_folder
from remediator.service import watchdog_within
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
from remediator.web.run_chart import picture
from remediator.web.site import Handler, Site

PAGE = 50
_FEW = 200


@dataclass(frozen=True, slots=True)
class Now:
    """What is so at this moment."""

    firing: Sequence[Episode]
    runs_of: Mapping[str, Sequence[str]]
    open_runs: Sequence[Run]
    pending: Sequence[tuple[Approval, Run | None]]
    stops: Sequence[stops.Stop]
    recent: Sequence[Run]
    dead: Sequence[outbox.Queued]
    heard: datetime | None
    silence: str
    head: int


def now(site: Site) -> Handler:
    """``GET /``."""

    async def get(request: Request, visitor: RequestIdentity) -> Response:
        moment, within = site.now, watchdog_within(site.service.config)
        found = await site.service.context.store.read(lambda connection: _now(connection, moment, within))
        said = read_stop_file(site.service.config.state)
        may_stop, may_resume = visitor.may(Permission.PAUSE), visitor.may(Permission.RESUME)
        return site.render(
            request,
            visitor,
            "now.html",
            found=found,
            stop_file=said,
            may_stop=may_stop,
            may_resume=may_resume,
            playbooks=sorted(playbook.name for playbook in site.service.context.playbooks.active),
            services=sorted(site.service.context.playbooks.inventory.services),
            live=True,
        )

    return site.page(get)


def _now(connection: Connection, moment: datetime, within: timedelta | None) -> Now:
    firing = [item for item in episodes.list_open(connection, _FEW) if item.status is EpisodeStatus.FIRING]
    heard = key_values.get(connection, key_values.WATCHDOG)
    waiting = [(item, runs.get(connection, item.run_id)) for item in approvals.list_pending(connection, 50)]
    return Now(
        firing,
        episodes.runs_of(connection, [item.id for item in firing]),
        runs.page(connection, _FEW, open_only=True),
        waiting,
        stops.standing(connection, moment),
        [run for run in runs.page(connection, 12) if run.finished_at is not None],
        outbox.list_dead(connection, 5),
        None if heard is None else heard.at,
        key_values.silence(connection, moment, within),
        audit.head(connection).seq,
    )


def history(site: Site) -> Handler:
    """``GET /runs``: search and filters; pages go on from the last row, so the thousandth is as quick as the first."""

    async def get(request: Request, visitor: RequestIdentity) -> Response:
        asked = request.query_params
        wanted = {name: asked.get(name, "").strip()[:200] or None for name in ("playbook", "target", "status")}
        search = asked.get("q", "").strip()[:200]
        before = paging.cursor(asked.get("before", ""))
        found = await site.service.context.store.read(lambda connection: _history(connection, search, wanted, before))
        more = len(found) > PAGE
        shown = found[:PAGE]
        cursor = paging.cursor_after(shown[-1]) if more else ""
        return site.render(
            request,
            visitor,
            "runs.html",
            runs=shown,
            wanted=wanted,
            search=search,
            cursor=cursor,
            first=before is None,
            statuses=[status.value for status in Status],
            playbooks=[playbook.name for playbook in site.service.context.playbooks.active],
            targets=sorted(site.service.context.playbooks.inventory.services),
            live=False,
        )

    return site.page(get)


def _history(
    connection: Connection, search: str, wanted: Mapping[str, str | None], before: tuple[datetime, str] | None
) -> list[Run]:
    """By filters; or by a search for a run's or an episode's id, a service, a playbook or an alert's name."""
    if not search:
        return _by_filters(connection, wanted, before)
    exact = runs.get(connection, search)
    if exact is not None:
        return [exact]
    of_alert = episodes.runs_of_alert(connection, search, PAGE + 1, before, **wanted)
    found = {run.id: run for run_id in of_alert if (run := runs.get(connection, run_id)) is not None}
    for field in ("playbook", "target"):
        if wanted[field] not in (None, search):
            continue  # another one is asked for, so nothing fits both
        more = _by_filters(connection, {**wanted, field: search}, before)
        found.update((run.id, run) for run in more)
    return sorted(found.values(), key=lambda run: (run.created_at, run.id), reverse=True)[: PAGE + 1]


def _by_filters(
    connection: Connection, wanted: Mapping[str, str | None], before: tuple[datetime, str] | None
) -> list[Run]:
    playbook, target, status = (wanted[name] for name in ("playbook", "target", "status"))
    return runs.page(connection, PAGE + 1, before, playbook=playbook, target=target, status=status)


def run(site: Site) -> Handler:
    """``GET /runs/<id>``: the straight line, with evidence, verdicts and the exact calls."""

    async def get(request: Request, visitor: RequestIdentity) -> Response:
        run_id = request.path_params["run_id"]
        found = await site.service.context.store.read(lambda connection: _run(connection, run_id))
        if found is None:
            said = await asyncio.to_thread(run_timeline.unknown, run_id, archive_folder(site.service.config))
            return site.sorry(request, visitor, 404, "There is no such run", said)
        told, pending, sent, moved = found
        context = _run_context(site, visitor, told, pending, sent)
        return site.render(request, visitor, "run.html", moved=moved, **context)

    return site.page(get)


def _run(
    connection: Connection, run_id: str
) -> tuple[RunTimeline, Approval | None, Sequence[outbox.Queued], bool] | None:
    """Its story, its last request, its messages, and whether entries of it have moved to the archive."""
    told = run_timeline.load_timeline(connection, run_id)
    if told is None:
        return None
    moved = begin(connection).seq > 0 and not any(event.kind == "run.matched" for event in told.events)
    return told, approvals.latest_of(connection, run_id), outbox.of_run(connection, run_id), moved


def _run_context(
    site: Site, visitor: RequestIdentity, told: RunTimeline, asked: Approval | None, sent: Sequence[outbox.Queued]
) -> dict[str, Any]:
    plan: Plan | None = None if told.run.plan is None else from_data(told.run.plan)
    over = told.run.finished_at is not None
    return {
        "run": told.run,
        "told": told,
        "plan": plan,
        "asked": asked,
        "sent": sent,
        "line": straight_line(told),
        "fires": list(messages.fires(told.alerts, site.now)),
        "risks": [] if plan is None else list(messages.risks(plan)),
        "has_chart": site.service.world.prometheus is not None and bool(told.alerts),
        "may_cancel": visitor.may(Permission.CANCEL) and (not over or told.run.holds_target),
        "may_retry": visitor.may(Permission.RETRY) and over and told.run.incident_open,
        "live": not over,
    }


_VERB_OF = (
    ("receive", ("episode.", "notification.")),
    ("match", ("run.matched",)),
    ("plan", ("run.planned",)),
    ("guard", ("guard.", "breaker.")),
    ("approve", ("approval.",)),
    ("act", ("action.",)),
    ("verify", ("verification",)),
    ("people", ("message.", "operator.")),
)


@dataclass(frozen=True, slots=True)
class Moment:
    """One event on the timeline, with the verb of the straight line that it belongs to."""

    at: datetime
    verb: str
    text: str
    kind: str


def straight_line(told: RunTimeline) -> list[Moment]:
    """The run's events, each under its verb; a change of state belongs to the verb before it."""
    moments: list[Moment] = []
    verb = "match"
    for event in told.events:
        verb = next((name for name, starts in _VERB_OF if event.kind.startswith(starts)), verb)
        if event.kind == "evidence":
            verb = {"diagnose": "plan", "verify": "verify"}.get(event.text.partition(" ")[0], verb)
        moments.append(Moment(event.at, verb, messages.sanitize(event.text, 2000), event.kind))
    return moments


@dataclass(frozen=True, slots=True)
class Standing:
    """A playbook with its record."""

    playbook: Playbook
    written: str
    mode: str
    place: autonomy.Place | None
    results: Mapping[str, int]
    breaker: tuple[str, str, datetime] | None

    @property
    def ended(self) -> int:
        """How many of the last runs came to act and to an end."""
        return sum(self.results.get(status, 0) for status in ("succeeded", "failed", "escalated"))

    @property
    def rate(self) -> int | None:
        """Of those, how many of a hundred healed."""
        return None if not self.ended else round(100 * self.results.get("succeeded", 0) / self.ended)


def playbooks(site: Site) -> Handler:
    """``GET /playbooks``: how each does, and what it may do by itself."""

    async def get(request: Request, visitor: RequestIdentity) -> Response:
        standing = await site.service.context.store.read(lambda connection: _standing(connection, site))
        return site.render(request, visitor, "playbooks.html", standing=standing, rungs=autonomy.RUNGS, live=False)

    return site.page(get)


def _standing(connection: Connection, site: Site) -> list[Standing]:
    book = site.service.context.playbooks
    tripped = breakers.tripped(connection)
    return [
        Standing(
            playbook,
            written := playbook.mode_in(book.environment),
            autonomy.effective(connection, playbook.name, written),
            autonomy.place(connection, playbook.name),
            runs.results(connection, playbook.name),
            tripped.get(playbook.name),
        )
        for playbook in book.active
    ]


@dataclass(frozen=True, slots=True)
class Row:
    """One entry of the log as it is shown."""

    seq: int
    time: datetime
    hash: str
    kind: str
    actor: str
    reason: str
    run: str | None
    data: str


def log(site: Site) -> Handler:
    """``GET /audit``: the log, newest first, with whether what is shown hangs together."""

    async def get(request: Request, visitor: RequestIdentity) -> Response:
        asked = request.query_params
        wanted = {name: asked.get(name, "").strip()[:64] or None for name in ("run", "kind")}
        cursor = asked.get("before", "")
        before = int(cursor) if cursor.isascii() and cursor.isdigit() and len(cursor) < 18 else None
        found = await site.service.context.store.read(lambda connection: _log(connection, wanted, before))
        return site.render(request, visitor, "audit.html", wanted=wanted, live=False, **found)

    return site.page(get)


def _log(connection: Connection, wanted: Mapping[str, str | None], before: int | None) -> dict[str, Any]:
    found = audit.newest(connection, PAGE + 1, before, **wanted)
    shown = found[:PAGE]
    rows = [_row(item) for item in shown]
    head, signed = audit.head(connection), key_values.get(connection, checkpointing.LATEST)
    return {
        "rows": rows,
        "head": head,
        "head_hash": head.hash.hex(),
        "broken": _broken(shown, head, newest=before is None, all_kinds=not any(wanted.values())),
        "cursor": shown[-1].seq if len(found) > PAGE else None,
        "signed": None if signed is None else signed.value,
        "moved": begin(connection).seq,
    }


def _broken(shown: Sequence[SealedEntry], head: Head, *, newest: bool, all_kinds: bool) -> int | None:
    """The first entry that does not fit; the first page also has to end where the head says that the log ends."""
    found = audit.broken(shown, contiguous=all_kinds)
    if found is None and newest and all_kinds and [(row.seq, row.hash) for row in shown[:1]] != [(head.seq, head.hash)]:
        return head.seq if head.seq else None
    return found


def _row(item: SealedEntry) -> Row:
    known = (item.seq, item.time, item.hash.hex(), item.kind)
    try:
        entry = decode(item.canonical)
    except NotCanonical:  # somebody wrote into the database: shown, and said to be broken
        return Row(*known, "cannot be read", "", item.run, _pretty(item.canonical))
    return Row(*known, entry.actor, entry.reason or "", entry.run, _pretty(item.canonical))


def _pretty(canonical: bytes) -> str:
    return messages.sanitize(canonical.decode("utf-8", "replace"), 6000)


def inventory(site: Site) -> Handler:
    """``GET /inventory``: the services, and what depends on what."""

    async def get(request: Request, visitor: RequestIdentity) -> Response:
        known = site.service.context.playbooks.inventory
        holding = await site.service.context.store.read(runs.holding)
        known_open = await site.service.context.store.read(lambda connection: episodes.list_open(connection, _FEW))
        firing = [item for item in known_open if item.status is EpisodeStatus.FIRING]
        services = dict(sorted(known.services.items()))
        drawn = picture(
            {name: list(service.depends_on) for name, service in services.items()},
            {name: service.platform.kind for name, service in services.items()},
        )
        sick = {
            service.name
            for item in firing
            if item.status is EpisodeStatus.FIRING
            for service in known.about(item.labels)
        }
        held = {run.target: run for run in holding}
        return site.render(
            request, visitor, "inventory.html", services=services, drawn=drawn, sick=sick, held=held, live=False
        )

    return site.page(get)
