"""The autonomy ladder: overrides of the mode in a playbook file. Circuit breakers demote, only operators promote."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from remediator.audit import Draft, Kind
from remediator.storage import Tx
from remediator.storage.repositories import blocked_runs, key_values

MODES = ("observe", "shadow", "approve", "auto")
"""All modes, the most restricted first."""


@dataclass(frozen=True, slots=True)
class ModeOverride:
    """The mode that an operator or a circuit breaker set for a playbook."""

    mode: str
    who: str
    reason: str
    written: str
    """The mode in the playbook file at that time. A later change of the file is a new decision of its authors."""
    at: datetime


def _name(playbook: str) -> str:
    return f"autonomy:{playbook}"


def lower_mode(first: str, second: str) -> str:
    """Return the more restricted of two modes."""
    return min(first, second, key=MODES.index)


def get_override(connection: Connection, playbook: str) -> ModeOverride | None:
    """Return the override of a playbook; None if the mode in its file applies."""
    fact = key_values.get(connection, _name(playbook))
    return None if fact is None else _place(fact.value, fact.at)


def list_overrides(connection: Connection) -> dict[str, ModeOverride]:
    """Return all overrides, by playbook."""
    found = key_values.with_prefix(connection, _name(""))
    return {name.removeprefix(_name("")): _place(fact.value, fact.at) for name, fact in found.items()}


def _place(value: Any, at: datetime) -> ModeOverride:
    return ModeOverride(value["mode"], value["who"], value["reason"], value["written"], at)


def effective_mode(connection: Connection, playbook: str, written: str) -> str:
    """Return the mode that applies to a playbook.

    Args:
        written: the mode in its file for this environment.
    """
    set_mode = get_override(connection, playbook)
    if set_mode is None:
        return written
    return set_mode.mode if set_mode.written == written else lower_mode(set_mode.mode, written)


def set_mode(tx: Tx, playbook: str, mode: str, written: str, who: str, reason: str) -> None:
    """Override the mode of a playbook and append an audit entry."""
    reason = tx.redact(reason)
    before = effective_mode(tx.connection, playbook, written)
    key_values.set(tx, _name(playbook), {"mode": mode, "who": who, "reason": reason, "written": written})
    data = {"command": "promote" if MODES.index(mode) > MODES.index(before) else "demote", "from": before, "to": mode}
    tx.append_audit(Draft(kind=Kind.OPERATOR_COMMAND, actor=who, playbook=playbook, reason=reason, data=data))
    blocked_runs.schedule_now(tx, ["autonomy"])
