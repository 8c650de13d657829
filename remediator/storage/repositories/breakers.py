"""Breakers: when each tripped, and when a person reset it. Whether one is open follows from how runs ended."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from remediator.audit import Draft, Kind
from remediator.core.clock import rfc3339
from remediator.storage import Tx
from remediator.storage.repositories import blocked_runs, key_values

_KEPT = 20  # trips that are remembered


@dataclass(frozen=True, slots=True)
class OpenBreaker:
    """An open breaker."""

    why: str
    """``failing`` or ``ineffective``."""
    scope: str
    """``playbook``, or the target for which it is open."""
    runs: tuple[str, ...]
    at: datetime
    half_open_at: datetime | None
    """When one run may try by itself; None: only a person lets it."""


def _name(playbook: str) -> str:
    return f"breaker:{playbook}"


def trip(tx: Tx, playbook: str, opened: OpenBreaker) -> list[datetime]:
    """Remember that it opened now; returns when it did, this time included."""
    fact = key_values.get(tx.connection, _name(playbook))
    value = {} if fact is None else fact.value
    trips = [*value.get("trips", []), rfc3339(tx.now)][-_KEPT:]
    key_values.set(tx, _name(playbook), {**value, "trips": trips, "why": opened.why, "scope": opened.scope})
    return [datetime.fromisoformat(at) for at in trips]


def reset(tx: Tx, playbook: str, who: str, reason: str) -> None:
    """A person lets it try again: what was before does not count any more."""
    reason = tx.redact(reason)
    key_values.set(tx, _name(playbook), {"reset": rfc3339(tx.now), "who": who, "reason": reason})
    tx.append_audit(Draft(kind=Kind.CIRCUIT_BREAKER_RESET, actor=who, playbook=playbook, reason=reason))
    blocked_runs.schedule_now(tx, ["circuit_breaker"])


def reset_at(connection: Connection, playbook: str) -> datetime | None:
    """When a person last reset it."""
    fact = key_values.get(connection, _name(playbook))
    said = None if fact is None else fact.value.get("reset")
    return None if said is None else datetime.fromisoformat(said)


def list_tripped(connection: Connection) -> dict[str, tuple[str, str, datetime]]:
    """The playbooks whose breaker tripped and was not reset since: why, for what scope, and when last."""
    found = key_values.with_prefix(connection, _name(""))
    return {
        name.removeprefix(_name("")): (fact.value["why"], fact.value["scope"], fact.at)
        for name, fact in found.items()
        if fact.value.get("trips")
    }
