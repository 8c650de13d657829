"""Circuit breakers: when each opened, and when an operator reset it.

The results of runs determine whether it is open.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from remediator.audit import Draft, Kind
from remediator.core.clock import rfc3339
from remediator.storage import Tx
from remediator.storage.repositories import blocked_runs, key_values

_MAX_TRIPS = 20  # number of trips that are kept for each playbook


@dataclass(frozen=True, slots=True)
class OpenBreaker:
    """An open circuit breaker."""

    why: str
    """``failing`` or ``ineffective``."""
    scope: str
    """``playbook``, or the target for which the circuit breaker is open."""
    runs: tuple[str, ...]
    at: datetime
    half_open_at: datetime | None
    """When one run may act automatically again; None: only after an operator resets the breaker."""


def _name(playbook: str) -> str:
    return f"breaker:{playbook}"


def trip(tx: Tx, playbook: str, opened: OpenBreaker) -> list[datetime]:
    """Record that the breaker opened now. Return all times when it opened, including this one."""
    fact = key_values.get(tx.connection, _name(playbook))
    value = {} if fact is None else fact.value
    trips = [*value.get("trips", []), rfc3339(tx.now)][-_MAX_TRIPS:]
    key_values.set(tx, _name(playbook), {**value, "trips": trips, "why": opened.why, "scope": opened.scope})
    return [datetime.fromisoformat(at) for at in trips]


def reset(tx: Tx, playbook: str, who: str, reason: str) -> None:
    """Close a breaker on behalf of an operator; earlier results do not count any more."""
    reason = tx.redact(reason)
    key_values.set(tx, _name(playbook), {"reset": rfc3339(tx.now), "who": who, "reason": reason})
    tx.append_audit(Draft(kind=Kind.CIRCUIT_BREAKER_RESET, actor=who, playbook=playbook, reason=reason))
    blocked_runs.schedule_now(tx, ["circuit_breaker"])


def reset_at(connection: Connection, playbook: str) -> datetime | None:
    """Return when an operator last reset the breaker of a playbook; None if never."""
    fact = key_values.get(connection, _name(playbook))
    said = None if fact is None else fact.value.get("reset")
    return None if said is None else datetime.fromisoformat(said)


def list_tripped(connection: Connection) -> dict[str, tuple[str, str, datetime]]:
    """Return the playbooks with an open breaker: cause, scope and time of the last opening."""
    found = key_values.with_prefix(connection, _name(""))
    return {
        name.removeprefix(_name("")): (fact.value["why"], fact.value["scope"], fact.at)
        for name, fact in found.items()
        if fact.value.get("trips")
    }
