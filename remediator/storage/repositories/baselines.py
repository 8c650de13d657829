"""Data of deleted runs and episodes for reports: since when a playbook acts automatically, and how long its alerts
lasted before. Bounded: one instant per playbook and :data:`MAX_DURATIONS` durations per alert name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from remediator.core.clock import from_micros, to_micros
from remediator.storage import Tx
from remediator.storage.repositories import key_values

MAX_DURATIONS = 300
"""Number of durations kept per alert, the latest before automatic remediation: enough for a distribution."""


def _since(playbook: str) -> str:
    return f"automatic:{playbook}"


def _lasted(alertname: str) -> str:
    return f"lasted:{alertname}"[:200]


def automatic_since(connection: Connection) -> dict[str, datetime]:
    """Return when each playbook first acted automatically, for runs that are deleted."""
    found = key_values.with_prefix(connection, _since(""))
    return {name.removeprefix(_since("")): from_micros(fact.value) for name, fact in found.items()}


def list_durations(connection: Connection, alertnames: Iterable[str], until: datetime) -> list[float]:
    """Return how long, in seconds, deleted alerts of these names lasted that began before ``until``; newest first."""
    found = [
        fact.value["kept"] for name in alertnames if (fact := key_values.get(connection, _lasted(name))) is not None
    ]
    pairs = sorted((pair for kept in found for pair in kept if pair[0] < to_micros(until)), reverse=True)
    return [seconds for _, seconds in pairs]


def record_automatic_action(tx: Tx, playbook: str, acted: datetime, alerts: Mapping[str, datetime]) -> None:
    """Record that a run, which is deleted now, acted automatically.

    Args:
        playbook: its playbook.
        acted: the time of its first action.
        alerts: its alerts by name, with the time when they began; later alerts are not from the time before automation.
    """
    since, at = key_values.get(tx.connection, _since(playbook)), to_micros(acted)
    if since is None or at < since.value:
        key_values.set(tx, _since(playbook), at)
    for name, began in alerts.items():
        value = _value(tx, name)
        until = min(to_micros(began), value["until"] or to_micros(began))
        key_values.set(tx, _lasted(name), {**value, "until": until})


def record_durations(tx: Tx, alertname: str, lengths: Sequence[tuple[datetime, datetime]]) -> None:
    """Record the (start, end) of alerts of this name that are deleted now."""
    value = _value(tx, alertname)
    new = [
        (to_micros(began), (over - began).total_seconds())
        for began, over in lengths
        if value["until"] is None or to_micros(began) < value["until"]
    ]
    if new:
        kept = sorted([*(tuple(pair) for pair in value["kept"]), *new])[-MAX_DURATIONS:]
        key_values.set(tx, _lasted(alertname), {**value, "kept": kept})


def _value(tx: Tx, alertname: str) -> dict[str, Any]:
    fact = key_values.get(tx.connection, _lasted(alertname))
    return {"until": None, "kept": []} if fact is None else dict(fact.value)
