"""The cost of an action, measured when it is planned and again right before it acts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta

import msgspec

from remediator.core.clock import format_duration

Amount = bool | int | float
EFFECT = "effect"
"""In `Cost.unknown`: the action does not measure its effect at all. No tolerance covers it."""


class Cost(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """The measured cost of one call. A field is None if it does not apply, or if it is in ``unknown``."""

    unsaved_writes: int | None = None
    """Writes that only the memory of the service has."""
    last_save_age: float | None = None
    """Seconds since the last successful save."""
    cannot_save: bool | None = None
    """The last save, or the last write to the append-only file, failed."""
    refuses: bool | None = None
    """The service answers and refuses to serve, for example because of a password. A restart rarely fixes that."""
    only_copy: bool | None = None
    """No other instance and no other file has the same data."""
    clients: int | None = None
    """Clients that lose their connection."""
    in_flight_requests: int | None = None
    """Requests that the service works on now."""
    sole_instance: bool | None = None
    """No other instance serves during the interruption."""
    ready_instances: int | None = None
    """Instances that are ready now."""
    unreplicated_bytes: int | None = None
    """Bytes of the replication stream that no replica has received."""
    evicted_bytes: int | None = None
    """Bytes of keys that a memory store must evict at once."""
    deleted_bytes: int | None = None
    """Bytes of files that are deleted permanently."""
    rolled_back_transactions: int | None = None
    """Transactions of a database that have changed something and are rolled back."""
    changed_rows: int | None = None
    """Rows of a database that are changed or deleted permanently."""
    unknown: Mapping[str, str] = {}
    """Fields that apply and could not be measured, each with the reason."""
    source: str = ""
    """Source of the values, if the service itself does not answer."""

    def known(self) -> dict[str, Amount]:
        """Return the measured fields."""
        values = ((name, getattr(self, name)) for name in FIELDS)
        return {name: value for name, value in values if value is not None}

    def lines(self) -> tuple[str, ...]:
        """Return the cost in short phrases for people, unknown values first."""
        return (
            *(f"{_NAMES.get(name, name)}: unknown ({why})" for name, why in self.unknown.items()),
            *_phrases(self.known()),
            *([f"source: {self.source}"] if self.source else []),
        )

    @property
    def text(self) -> str:
        """Return the cost in one line; empty if nothing was measured."""
        return "; ".join(self.lines())


FIELDS: tuple[str, ...] = tuple(field for field in Cost.__struct_fields__ if field not in ("unknown", "source"))
"""The names of the measured values."""

_NAMES = {
    "unsaved_writes": "unsaved writes",
    "last_save_age": "age of the last save",
    "cannot_save": "whether it can save",
    "refuses": "whether it answers and refuses to serve",
    "only_copy": "whether this is the only copy",
    "clients": "connected clients",
    "in_flight_requests": "requests in progress",
    "sole_instance": "whether another instance serves",
    "ready_instances": "ready instances",
    "unreplicated_bytes": "bytes that no replica has",
    "evicted_bytes": "bytes of keys to evict",
    "deleted_bytes": "bytes to delete",
    "rolled_back_transactions": "transactions with changes to roll back",
    "changed_rows": "rows to change",
    EFFECT: "effect",
}
_TRUE = {
    "cannot_save": "it cannot save its data now",
    "refuses": "it answers and refuses to serve, which an interruption rarely fixes",
    "only_copy": "this is the only copy of the data",
    "sole_instance": "no other instance serves during the interruption",
}
_FALSE = {
    "only_copy": "another copy of the data exists",
    "sole_instance": "other instances serve during the interruption",
}


def _phrases(known: Mapping[str, Amount]) -> Iterator[str]:
    for name, value in known.items():
        if isinstance(value, bool):
            if phrase := (_TRUE if value else _FALSE).get(name):
                yield phrase
        else:
            yield f"{_NAMES[name]}: {_shown(name, value)}"


def _shown(name: str, value: Amount) -> str:
    return format_duration(timedelta(seconds=int(value))) if name == "last_save_age" else f"{value:,}"


GROWTH = 2
"""An approval covers a loss up to this many times the shown loss, because a busy service continues to write."""


def excess(cost: Cost, tolerance: Mapping[str, Amount], accepted: Cost | None = None) -> tuple[str, ...]:
    """Return each loss that is above the tolerance, or unknown; empty if no approval is needed.

    Args:
        cost: the current measurement.
        tolerance: the limits, by field. A field without a limit is never a reason to ask.
        accepted: the cost that a person has approved.
    """
    found = []
    for name, limit in tolerance.items():
        if name in cost.unknown:
            if accepted is None or name not in accepted.unknown:
                found.append(f"{_NAMES[name]}: unknown ({cost.unknown[name]})")
        elif (value := getattr(cost, name)) is not None and _is_above(name, value, limit, cost, accepted):
            phrase = _TRUE[name] if isinstance(value, bool) else f"{_NAMES[name]}: {_shown(name, value)}"
            found.append(phrase if isinstance(value, bool) else f"{phrase}, tolerated: {_shown(name, limit)}")
    if EFFECT in cost.unknown and (accepted is None or EFFECT not in accepted.unknown):
        found.append(f"effect: unknown ({cost.unknown[EFFECT]})")
    return tuple(found)


def _is_above(name: str, value: Amount, limit: Amount, cost: Cost, accepted: Cost | None) -> bool:
    approved: Amount | None = None if accepted is None else getattr(accepted, name)
    if isinstance(value, bool):
        return value and not limit and not approved
    if name == "last_save_age" and cost.unsaved_writes == 0:
        return False  # no data was written since the save
    return value > max(limit, 0 if approved is None else approved * GROWTH)
