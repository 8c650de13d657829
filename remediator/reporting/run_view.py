"""A run as people read it in the CLI: its data, and the same sections as its messages and its page."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from remediator.extensions.notifiers.base import Section
from remediator.reporting import outcome_text, request_text, run_timeline
from remediator.reporting.formatting import format_time
from remediator.reporting.request_text import sanitize
from remediator.reporting.request_view import RequestView
from remediator.storage.repositories import approvals
from remediator.storage.repositories.comments import Comment, CommentKind


def run_view(
    connection: Connection, run_id: str, folder: Path | None, now: datetime, public_url: str
) -> dict[str, Any] | None:
    """Return the timeline of a run as data, with its sections for people; None if there is no such run.

    Args:
        connection: to the store.
        run_id: the ID of the run.
        folder: the archive of the audit log, if there is one.
        now: the time, for ages and deadlines.
        public_url: the address of the console; empty if it has none.
    """
    timeline = run_timeline.load_timeline(connection, run_id, folder)
    if timeline is None:
        return None
    latest = approvals.get_latest(connection, run_id)
    request = None if latest is None else RequestView.load(connection, latest, timeline.run)
    if request is not None:
        sections = list(request.sections(now))
    else:
        sections = [
            Section("Result", outcome_text.result_lines(timeline.run, timeline.attempts, timeline.evidence)),
            Section("Alerts", tuple(request_text.alert_lines(timeline.alerts, now))),
            Section("Likely cause", request_text.cause_lines(timeline.evidence)),
        ]
    sections.append(Section("Comments", tuple(map(comment_line, timeline.comments))))
    return {
        **run_timeline.as_data(timeline),
        "sections": [
            {"heading": section.heading, "lines": list(section.lines), "exact": section.exact}
            for section in sections
            if section.lines
        ],
        "request": None if request is None or not request.pending(now) else request.approval.id,
        "url": f"{public_url.rstrip('/')}/runs/{run_id}" if public_url else "",
        "complete": timeline.complete,
    }


def comment_line(comment: Comment) -> str:
    """Return a comment or an acknowledgement in one line."""
    said = f"{format_time(comment.at)} {comment.person}"
    if comment.kind is CommentKind.ACKNOWLEDGEMENT:
        said += " takes care of it"
    return sanitize(f"{said}: {comment.text}" if comment.text else said)
