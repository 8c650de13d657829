"""Notify people that a guard holds a run back: once for each run and guard.

The message in the outbox is the record of the notification. It is written in a fenced transaction of the run, so two
replicas never send it twice, and a restart does not repeat it.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from remediator.core.clock import rfc3339
from remediator.core.message import MessageKind
from remediator.core.run import EpisodeStatus, Run
from remediator.core.run_detail import BlockedDetail
from remediator.extensions.guards.base import Guard, GuardInput
from remediator.pipeline.context import PASSIVE_MODES, PipelineContext
from remediator.pipeline.incident import repair_settles_at
from remediator.pipeline.run_context import RunTransaction
from remediator.storage.repositories import outbox

NOTICE_DELAY = timedelta(minutes=2)
"""How long a run is blocked before people are notified, unless one of its alerts is critical."""


def notice_due_at(
    connection: Connection, context: PipelineContext, asked: GuardInput, run: Run, blocked: BlockedDetail
) -> datetime | None:
    """Return when people must be notified that the run is blocked; None if this is not needed or already done.

    Args:
        connection: to read the messages of the run.
        context: has the guards.
        asked: the input of the guards, with the alerts of the run.
        run: the run, with its plan.
        blocked: why the run is blocked, and since when.
    """
    kind = next((type(guard) for guard in context.guards if guard.name == blocked.guard), Guard)
    if run.mode in PASSIVE_MODES or blocked.guard_reason in kind.expected_reasons or not run.escalate_to:
        return None
    if outbox.is_held_back_notified(connection, run.id, blocked.guard):
        return None
    critical = any(
        alert.labels.get("severity") == "critical" and alert.status is EpisodeStatus.FIRING for alert in asked.episodes
    )
    since = blocked.since or run.created_at
    due = since if critical and blocked.guard_reason not in kind.passing_reasons else since + NOTICE_DELAY
    settles_at = repair_settles_at(connection, run, asked.now)
    return due if settles_at is None else max(due, settles_at)


def notify_if_due(tx: RunTransaction, asked: GuardInput, blocked: BlockedDetail) -> datetime | None:
    """Enqueue the notice about a blocked run if it is due. Return when it will be due; None if it never will be."""
    due = notice_due_at(tx.connection, tx.pipeline, asked, tx.run, blocked)
    if due is None or tx.now < due:
        return due
    outbox.enqueue_for_incident(
        tx.tx, tx.pipeline.ids, MessageKind.HELD_BACK, tx.run, held_back_content(blocked, tx.run), tx.run.escalate_to
    )
    return None


def held_back_content(blocked: BlockedDetail, run: Run) -> dict[str, Any]:
    """Return the content of a notice: the guard, its reason, and the beginning and end of the block."""
    return {
        "guard": blocked.guard,
        "reason": blocked.guard_reason,
        "text": blocked.text,
        "since": rfc3339(blocked.since or run.created_at),
        "until": None if blocked.until is None else rfc3339(blocked.until),
    }
