"""Dead letters: an alert that cannot be processed must not stop the alerts after it (promise 1).

No known alert does this. An unknown defect could: without dead letters, one alert would stop the whole inbox until
someone fixes the defect. The alert stays in the inbox's table, is recorded in the audit log, and people are notified.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy.exc import DataError, SQLAlchemyError

from remediator.audit import Draft, Kind
from remediator.core.alert import Alert
from remediator.core.message import MessageKind
from remediator.errors import StoreError
from remediator.pipeline.context import PipelineContext
from remediator.storage import Tx
from remediator.storage.repositories import key_values, outbox

_MAX_LENGTH = 200
_NOTIFIED = "told:unfit"
_NOTIFY_INTERVAL = timedelta(minutes=1)


@dataclass(slots=True)
class AlertPosition:
    """Which alert: the number of its notification in the inbox, and its place in the notification, counted from 0."""

    notification: int = 0
    alert: int = 0


def may_be_caused_by_alert(error: Exception) -> bool:
    """Return whether one alert may be the cause of an error.

    A store that is unavailable, full, damaged or read-only is not caused by an alert, nor is a lack of memory or
    descriptors. Every alert would become a dead letter, so all of them wait instead.
    """
    return isinstance(error, DataError) or not isinstance(error, (StoreError, SQLAlchemyError, MemoryError, OSError))


def describe(error: Exception) -> str:
    """Return an error as one line that every store accepts."""
    first = next(iter(str(error).splitlines()), "")
    return printable(f"{type(error).__name__}: {first}")


def record(
    tx: Tx,
    context: PipelineContext,
    channels: Sequence[str],
    position: AlertPosition,
    alerts: Sequence[Alert],
    why: str,
) -> None:
    """Record a dead letter in the audit log, and notify people at most once a minute."""
    labels = alerts[position.alert].labels if position.alert < len(alerts) else {}
    name = printable(labels.get("alertname", "")) or "an alert"
    data = {"notification": position.notification, "alert": position.alert, "alertname": name, "message": why}
    tx.append_audit(Draft(kind=Kind.NOTIFICATION_REJECTED, actor=context.actor, reason="dead letter", data=data))
    notified = key_values.get(tx.connection, _NOTIFIED)
    if notified is not None and tx.now - notified.at < _NOTIFY_INTERVAL:
        return  # a defect that affects every alert must not send thousands of messages; the audit log has each
    key_values.set(tx, _NOTIFIED, True)
    text = (
        f"{name} could not be processed, and nothing is done about it. Check the alert and act yourself. "
        f"It is alert {position.alert + 1} of notification {position.notification}, which is kept: {why}. "
        "List all dead letters: remediator audit search --kind notification.rejected"
    )
    outbox.enqueue(tx, context.ids, MessageKind.NOTICE, None, {"about": "dead letter", "text": text}, channels)


def printable(text: str) -> str:
    """Return a text without the characters that the store may have refused."""
    return ascii(text[:_MAX_LENGTH])[1:-1]
