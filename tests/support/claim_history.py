"""The history of claims as PostgreSQL saw it, and a check of this history.

A trigger records every change of a run. The check shares no code with the engine, and compares the record with the
rules of a lock with fencing tokens.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from tests.support.replicas import changed, rows

_RECORDER = (
    "CREATE TABLE seen (seq bigserial PRIMARY KEY, run text, was text, became text, old_fence bigint, fence bigint, "
    "old_owner text, owner text, old_until bigint, until bigint, at bigint)",
    "CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
    "INSERT INTO seen (run, was, became, old_fence, fence, old_owner, owner, old_until, until, at) VALUES (NEW.id, "
    "coalesce(OLD.status, NEW.status), NEW.status, coalesce(OLD.fence, 0), NEW.fence, OLD.lease_owner, "
    "NEW.lease_owner, OLD.lease_until, NEW.lease_until, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint); "
    "RETURN NULL; END $$",
    # a run may be claimed when it is created; then OLD is null
    "CREATE TRIGGER see AFTER INSERT OR UPDATE ON runs FOR EACH ROW EXECUTE FUNCTION see()",
)


class Seen(NamedTuple):
    """One change of a run's row. The changes of a row are in the order in which its lock was held."""

    run: str
    was: str
    became: str
    old_fence: int
    fence: int
    old_owner: str | None
    owner: str | None
    old_until: int | None
    until: int | None
    at: int


class Tried(NamedTuple):
    """One call to a target: its run, its token, its begin and its end."""

    run: str
    target: str
    fence: int
    begun: int
    ended: int | None


def record(url: str) -> None:
    """Start to record every change of a run."""
    for statement in _RECORDER:
        changed(url, statement)


def seen(url: str) -> list[Seen]:
    """Return the recorded changes."""
    return [Seen(*row) for row in rows(url, f"SELECT {', '.join(Seen._fields)} FROM seen ORDER BY seq")]


def tried(url: str) -> list[Tried]:
    """Return every call that changed something, from the table of attempts."""
    asked = "SELECT run_id, target, fence, intent_at, outcome_at FROM attempts WHERE mutates ORDER BY intent_at"
    return [Tried(*row) for row in rows(url, asked)]


def faults(history: Iterable[Seen], calls: Sequence[Tried] = ()) -> list[str]:
    """Return violations of the lock's rules: one holder per run, and one call at a time per target.

    Each change of a run follows the one before. A claim raises the token by one, and is granted only when the run has
    no holder or the lease of its holder has expired. Only the holder changes the state of the run, renews the lease or
    releases it. Each call begins with a granted token, and calls to one target do not overlap.
    """
    found: list[str] = []
    last: dict[str, Seen] = {}
    granted: dict[str, set[int]] = defaultdict(set)
    for one in history:
        before = last.get(one.run)
        last[one.run] = one
        if before is not None and (before.fence, before.owner) != (one.old_fence, one.old_owner):
            found.append(f"{one.run}: {one} does not follow upon {before}")
        if one.fence != one.old_fence:
            granted[one.run].add(one.fence)
        found += [f"{one.run}: {what}" for what in _wrong(one)]
    return found + _overlaps(calls, granted)


def _wrong(one: Seen) -> list[str]:
    """Return the violations in one change by itself."""
    found = []
    claim = one.fence != one.old_fence
    if claim and one.fence != one.old_fence + 1:
        found.append(f"the token went from {one.old_fence} to {one.fence}")
    if claim and one.old_owner is not None and (one.old_until or 0) >= one.at:
        found.append(f"{one.owner} took it while {one.old_owner} held it")
    if not claim and one.owner not in (None, one.old_owner):
        found.append(f"{one.owner} has it without a token of its own")
    if one.was != one.became and (one.old_owner is None or claim):
        found.append(f"it went from {one.was} to {one.became} in nobody's hands")
    return found


def _overlaps(calls: Sequence[Tried], granted: Mapping[str, set[int]]) -> list[str]:
    found = []
    busy: dict[str, Tried] = {}
    for call in calls:
        if call.fence not in granted.get(call.run, set()):
            found.append(f"{call.run}: a call under token {call.fence}, which was never granted")
        other = busy.get(call.target)
        if other is not None and (other.ended is None or other.ended > call.begun):
            found.append(f"{call.target}: two calls at once, for {other.run} and {call.run}")
        busy[call.target] = call
    return found
