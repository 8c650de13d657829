"""An alert that cannot be folded, whatever the reason: it must not stand in the way of all that come after it.

Nothing is known that does this; what did was mended. But the next mistake of this kind would otherwise stop all intake,
at 3 a.m. and for good. So such an alert is put aside, where it stays readable, and goes to people instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy.exc import DataError, SQLAlchemyError

from remediator.audit import Draft, Kind
from remediator.core.alert import Alert
from remediator.errors import StoreError
from remediator.pipeline.context import PipelineContext
from remediator.storage import Tx
from remediator.storage.repositories import key_values, outbox

_LONG = 200
_TOLD = "told:unfit"
_ONCE_IN = timedelta(minutes=1)


@dataclass(slots=True)
class Place:
    """Which alert: the notification's number in the inbox, and the alert's place in it, counted from 0."""

    notification: int = 0
    alert: int = 0


def is_of_the_alert(error: Exception) -> bool:
    """Whether this may be the fault of one alert. A store that is away, full, damaged or without rights is nobody's
    fault, and would put aside everything: then all wait."""
    return isinstance(error, DataError) or not isinstance(error, (StoreError, SQLAlchemyError))


def sentence(error: Exception) -> str:
    """What is wrong, in one line that every store takes."""
    first = next(iter(str(error).splitlines()), "")
    return _plain(f"{type(error).__name__}: {first}")


def tell(
    tx: Tx, context: PipelineContext, channels: Sequence[str], place: Place, alerts: Sequence[Alert], why: str
) -> None:
    """Write it down, and tell people: from here on it is theirs."""
    labels = alerts[place.alert].labels if place.alert < len(alerts) else {}
    name = _plain(labels.get("alertname", "")) or "an alert"
    data = {"notification": place.notification, "alert": place.alert, "alertname": name, "message": why}
    tx.append_audit(Draft(kind=Kind.NOTIFICATION_REJECTED, actor=context.actor, reason="dead letter", data=data))
    told = key_values.get(tx.connection, _TOLD)
    if told is not None and tx.now - told.at < _ONCE_IN:
        return  # the audit log has each; a defect that meets every alert must not bury people
    key_values.set(tx, _TOLD, True)
    text = (
        f"{name} could not be taken in, and nothing will be done about it: a person should look "
        f"(alert {place.alert + 1} of notification {place.notification}, which is kept; {why}); "
        "for all of them: remediator audit search --kind notification.rejected"
    )
    outbox.enqueue(tx, context.ids, "notice", None, {"about": "dead letter", "text": text}, channels)


def _plain(text: str) -> str:
    """Without anything that may be just what could not be written."""
    return ascii(text[:_LONG])[1:-1]
