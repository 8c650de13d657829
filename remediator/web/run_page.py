"""The page of a run: the state graph, exact calls, evidence, verdicts, messages and the timeline."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby

from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import Response

from remediator.core.approval import Permission
from remediator.core.run import EpisodeStatus
from remediator.pipeline import decisions
from remediator.pipeline.manual_undo import undoable_steps
from remediator.reporting import outcome_text, request_text, run_timeline
from remediator.reporting.alert_links import Link, alert_links
from remediator.reporting.incidents import Incident, load_incident
from remediator.reporting.run_graph import run_graph
from remediator.reporting.run_timeline import RunTimeline
from remediator.runtime.retention import live_log_start
from remediator.runtime.settings import archive_folder
from remediator.storage.repositories import approvals, outbox
from remediator.storage.repositories.approvals import Approval
from remediator.web.authentication import RequestIdentity
from remediator.web.site import Site

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
_NOISE = ("evidence", "guard.verdict", "message.sent", "message.chart")
"""Kinds of events that are folded when several follow each other: they record observations, not actions."""
_MIN_FOLDED = 3
_MAX_OUTPUT_LINES = 100
"""Lines of the output of a running step that are shown."""


@dataclass(frozen=True, slots=True)
class TimelineItem:
    """One event of a run, with the stage of the pipeline that it belongs to."""

    at: datetime
    stage: str
    text: str
    kind: str


@dataclass(frozen=True, slots=True)
class TimelineGroup:
    """Events that are shown together: one event, or several that are folded."""

    items: Sequence[TimelineItem]

    @property
    def folded(self) -> bool:
        """Whether only the number of events is shown at first."""
        return len(self.items) > 1

    @property
    def summary(self) -> str:
        """Summarise the folded events."""
        names = {"evidence": "observations", "guard.verdict": "guard verdicts"}
        kinds = dict.fromkeys(names.get(item.kind, "messages") for item in self.items)
        return f"{len(self.items)} {', '.join(kinds)}"


async def run_page(site: Site, request: Request, identity: RequestIdentity) -> Response:
    """Answer ``GET /runs/<id>``."""
    run_id = request.path_params["run_id"]
    read = await site.service.context.store.view(lambda connection: _read_run(connection, run_id))
    if read is None:
        text = await asyncio.to_thread(run_timeline.missing_run_hint, run_id, archive_folder(site.service.config))
        return site.error_page(request, identity, 404, "Run not found", text)
    timeline, latest, sent, archived, incident = read
    run = timeline.run
    ended = run.finished_at is not None
    return site.render(
        request,
        identity,
        "run.html",
        run=run,
        timeline=timeline,
        graph=run_graph(timeline, site.now),
        plan=run.plan,
        approval=latest,
        sent=sent,
        archived=archived,
        incident=incident,
        links=_links(site, timeline),
        result=outcome_text.result_lines(run, timeline.attempts, timeline.evidence),
        groups=grouped(timeline_items(timeline)),
        fires=list(request_text.alert_lines(timeline.alerts, site.now)),
        live_output=_live_output(site, timeline),
        replica=run.lease_owner or "",
        firing=any(alert.status is EpisodeStatus.FIRING for alert in timeline.alerts),
        has_chart=site.service.clients.prometheus is not None and bool(timeline.alerts),
        may_cancel=identity.may(Permission.CANCEL) and (not ended or run.holds_target),
        undoable=undoable_steps(run, list(timeline.attempts)) if identity.may(Permission.UNDO) else [],
        may_comment=identity.may(Permission.COMMENT),
        may_retry=identity.may(Permission.RETRY) and decisions.can_retry(run, timeline.alerts),
        live=not ended,
    )


def _live_output(site: Site, timeline: RunTimeline) -> str | None:
    """Return the output of the running step, without secrets; None if no step runs, or another replica runs it."""
    context = site.service.context
    running = [item.id for item in timeline.attempts if item.outcome is None]
    lines = context.live_output.lines(running[-1]) if running else None
    if lines is None:
        return None
    clean = (request_text.sanitize(context.store.redactor.text(line), 400) for line in lines[-_MAX_OUTPUT_LINES:])
    return "\n".join(clean)


def _links(site: Site, timeline: RunTimeline) -> list[Link]:
    run = timeline.run
    found = [
        Link("Playbook", f"/playbooks/{run.playbook}", external=False),
        Link("Inventory", f"/inventory#{run.target}", external=False),
        Link("Incident", f"/incidents/{run.incident_id}", external=False),
    ]
    if timeline.alerts:
        found.append(Link("Alert", f"/alerts/{timeline.alerts[0].id}", external=False))
        found += alert_links(site.service.config, timeline.alerts[0], run.target, run.playbook, site.now)
    return found


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


def grouped(items: Sequence[TimelineItem]) -> list[TimelineGroup]:
    """Return the events in groups: several observations, verdicts or messages in a row are one group."""
    found: list[TimelineGroup] = []
    for is_noise, together in groupby(items, lambda item: item.kind in _NOISE):
        group = list(together)
        folded = is_noise and len(group) >= _MIN_FOLDED
        found += [TimelineGroup(group)] if folded else [TimelineGroup([item]) for item in group]
    return found
