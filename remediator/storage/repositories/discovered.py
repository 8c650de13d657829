"""The targets that discoveries have found, the same for all replicas, and which replica looks up next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from remediator.core.clock import rfc3339
from remediator.playbooks.discovered import TargetSet
from remediator.storage import Tx
from remediator.storage.repositories import key_values

_VERSIONS = "discoveries"
_SET, _TURN = "discovered ", "discovery "


@dataclass(frozen=True, slots=True)
class Turn:
    """The last lookup of a discovery."""

    settings: str = ""
    """Identifies the settings of the lookup."""
    next_at: str = ""
    """Time of the next lookup. During a lookup: the time at which another replica may take over."""
    problem: str = ""
    """The reason why the last lookup changed nothing; empty if it was good."""
    limit: str = ""
    """The limit that it exceeded, or that it failed."""
    left_out: tuple[str, ...] = ()
    """The first targets that are no services, with the reason."""


def load(connection: Connection) -> dict[str, TargetSet]:
    """Return the last good targets, by discovery."""
    found = key_values.with_prefix(connection, _SET)
    return {
        name.removeprefix(_SET): TargetSet.stored(stored.value["labels"], stored.value["rows"])
        for name, stored in found.items()
    }


def versions(connection: Connection) -> Mapping[str, str]:
    """Return the version of the last good targets, by discovery."""
    stored = key_values.get(connection, _VERSIONS)
    found: Mapping[str, str] = {} if stored is None else stored.value
    return found


def save(tx: Tx, discovery: str, targets: TargetSet, before: str) -> bool:
    """Replace the targets of a discovery, unless another replica did since. Return whether they were replaced.

    Args:
        tx: the transaction.
        discovery: its name.
        targets: the new targets.
        before: version of the replaced targets; empty if there were no targets.
    """
    stored = key_values.get(tx.connection, _VERSIONS, lock=True)
    known = {} if stored is None else dict(stored.value)
    if known.get(discovery, "") != before:
        return False
    key_values.set(tx, f"{_SET}{discovery}", {"labels": targets.labels, "rows": targets.rows})
    key_values.set(tx, _VERSIONS, {**known, discovery: targets.version})
    return True


def last_turn(connection: Connection, discovery: str, *, lock: bool = False) -> Turn:
    """Return the last lookup of a discovery; an empty lookup if there was none yet."""
    stored = key_values.get(connection, f"{_TURN}{discovery}", lock=lock)
    if stored is None:
        return Turn()
    value: dict[str, Any] = stored.value
    return Turn(**{**value, "left_out": tuple(value["left_out"])})


def set_turn(tx: Tx, discovery: str, turn: Turn) -> None:
    """Record the last lookup of a discovery."""
    key_values.set(tx, f"{_TURN}{discovery}", {**asdict(turn), "left_out": list(turn.left_out)})


def seconds_until(turn: Turn, settings: str, now: datetime) -> float:
    """Return the seconds until a lookup is due; 0 or less if it is due now, as with other settings than before."""
    if not turn.next_at or turn.settings != settings:
        return 0.0
    return (datetime.fromisoformat(turn.next_at) - now).total_seconds()


def after(now: datetime, pause: timedelta) -> str:
    """Return the time after a pause as a turn stores it."""
    return rfc3339(now + pause)
