"""The autonomy ladder: what a playbook may do by itself. Breakers demote, only people promote."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from remediator.audit import Draft, Kind
from remediator.storage import Tx
from remediator.storage.repositories import blocked_runs, key_values

RUNGS = ("observe", "shadow", "approve", "auto")
"""Lowest first."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where somebody, or a breaker, has put a playbook."""

    mode: str
    who: str
    reason: str
    written: str
    """The mode in the playbook's file at that time: when the file changes, people have spoken anew."""
    at: datetime


def _name(playbook: str) -> str:
    return f"ladder:{playbook}"


def lower(first: str, second: str) -> str:
    """The lower one of two rungs."""
    return min(first, second, key=RUNGS.index)


def place(connection: Connection, playbook: str) -> Place | None:
    """Where it was put; None if nobody did, so that its file decides."""
    fact = key_values.get(connection, _name(playbook))
    return None if fact is None else _place(fact.value, fact.at)


def places(connection: Connection) -> dict[str, Place]:
    """All that were put somewhere, by playbook."""
    found = key_values.named(connection, _name(""))
    return {name.removeprefix(_name("")): _place(fact.value, fact.at) for name, fact in found.items()}


def _place(value: Any, at: datetime) -> Place:
    return Place(value["mode"], value["who"], value["reason"], value["written"], at)


def effective(connection: Connection, playbook: str, written: str) -> str:
    """The rung on which it stands now.

    Args:
        written: the mode that its file gives it in this environment.
    """
    put = place(connection, playbook)
    if put is None:
        return written
    return put.mode if put.written == written else lower(put.mode, written)


def put(tx: Tx, playbook: str, mode: str, written: str, who: str, reason: str) -> None:
    """Put a playbook on a rung, on record."""
    reason = tx.clean(reason)
    before = effective(tx.connection, playbook, written)
    key_values.put(tx, _name(playbook), {"mode": mode, "who": who, "reason": reason, "written": written})
    data = {"command": "promote" if RUNGS.index(mode) > RUNGS.index(before) else "demote", "from": before, "to": mode}
    tx.audit(Draft(kind=Kind.OPERATOR_COMMAND, actor=who, playbook=playbook, reason=reason, data=data))
    blocked_runs.wake(tx, ["ladder"])
