"""The autonomy ladder: what a playbook may do by itself. Breakers demote, only people promote."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from remediator.audit import Draft, Kind
from remediator.storage import Tx
from remediator.storage.repositories import blocked_runs, key_values

MODES = ("observe", "shadow", "approve", "auto")
"""Lowest first."""


@dataclass(frozen=True, slots=True)
class ModeOverride:
    """Where somebody, or a breaker, has put a playbook."""

    mode: str
    who: str
    reason: str
    written: str
    """The mode in the playbook's file at that time: when the file changes, people have spoken anew."""
    at: datetime


def _name(playbook: str) -> str:
    return f"ladder:{playbook}"


def lower_mode(first: str, second: str) -> str:
    """The lower one of two rungs."""
    return min(first, second, key=MODES.index)


def get_override(connection: Connection, playbook: str) -> ModeOverride | None:
    """Where it was put; None if nobody did, so that its file decides."""
    fact = key_values.get(connection, _name(playbook))
    return None if fact is None else _place(fact.value, fact.at)


def list_overrides(connection: Connection) -> dict[str, ModeOverride]:
    """All that were put somewhere, by playbook."""
    found = key_values.with_prefix(connection, _name(""))
    return {name.removeprefix(_name("")): _place(fact.value, fact.at) for name, fact in found.items()}


def _place(value: Any, at: datetime) -> ModeOverride:
    return ModeOverride(value["mode"], value["who"], value["reason"], value["written"], at)


def effective_mode(connection: Connection, playbook: str, written: str) -> str:
    """The rung on which it stands now.

    Args:
        written: the mode that its file gives it in this environment.
    """
    set_mode = get_override(connection, playbook)
    if set_mode is None:
        return written
    return set_mode.mode if set_mode.written == written else lower_mode(set_mode.mode, written)


def set_mode(tx: Tx, playbook: str, mode: str, written: str, who: str, reason: str) -> None:
    """Put a playbook on a rung, on record."""
    reason = tx.redact(reason)
    before = effective_mode(tx.connection, playbook, written)
    key_values.set(tx, _name(playbook), {"mode": mode, "who": who, "reason": reason, "written": written})
    data = {"command": "promote" if MODES.index(mode) > MODES.index(before) else "demote", "from": before, "to": mode}
    tx.append_audit(Draft(kind=Kind.OPERATOR_COMMAND, actor=who, playbook=playbook, reason=reason, data=data))
    blocked_runs.schedule_now(tx, ["autonomy"])
