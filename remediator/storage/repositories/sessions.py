"""Sessions of people who signed in. The cookie names a session; this table decides whether it is still valid."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Connection, delete, insert, select, update

from remediator.audit import Draft, Kind
from remediator.core.approval import Person
from remediator.storage import Tx
from remediator.storage.schema import sessions as table

KEPT = timedelta(days=30)
"""How long an ended session stays in the table. The audit log has it for longer."""
TOUCH_INTERVAL = timedelta(minutes=1)
"""The time of the last request is stored this often at most, so that reading a page rarely writes."""


@dataclass(frozen=True, slots=True)
class Session:
    """One sign-in of one person in one browser."""

    id: str
    person: str
    how: str
    claimed: Sequence[str]
    credential: str | None
    address: str
    created_at: datetime
    seen_at: datetime
    expires_at: datetime
    ended_at: datetime | None
    ended_by: str | None
    remembered: bool = False
    """The person wanted to stay signed in: the session has no idle limit."""

    def is_active(self, now: datetime, idle: timedelta) -> bool:
        """Return whether the session was not ended, and is within its idle and its absolute limit."""
        used = self.remembered or now - self.seen_at < idle
        return self.ended_at is None and now < self.expires_at and used


def session_id(cookie: str) -> str:
    """Return the ID of a cookie's session. The table has only the hash, so that a copy of it opens no session."""
    return hashlib.sha256(cookie.encode("utf-8", "replace")).hexdigest()


def start(
    tx: Tx, person: Person, credential: str | None, address: str, life: timedelta, *, remembered: bool = False
) -> str:
    """Start a session and return the value of its cookie, which is 256 random bits.

    Args:
        tx: the transaction.
        person: who signed in.
        credential: hash of the operator token that proved it; None without one.
        address: from where.
        life: the absolute limit.
        remembered: without the idle limit.
    """
    cookie = secrets.token_urlsafe(32)
    values = {
        "id": session_id(cookie),
        "person": person.id,
        "how": person.how,
        "claimed": sorted(person.claimed),
        "credential": credential,
        "address": address[:64],
        "remembered": remembered,
    }
    tx.connection.execute(insert(table).values(created_at=tx.now, seen_at=tx.now, expires_at=tx.now + life, **values))
    tx.connection.execute(delete(table).where(table.c.expires_at < tx.now - KEPT))
    data = {"session": session_id(cookie)[:12], "how": person.how, "address": address[:64], "expires_at": tx.now + life}
    tx.append_audit(Draft(kind=Kind.SESSION_STARTED, actor=person.id, data=data))
    return cookie


def get(connection: Connection, cookie: str) -> Session | None:
    """Return the session of a cookie, active or not, or None."""
    row = connection.execute(select(table).where(table.c.id == session_id(cookie))).first()
    return None if row is None else Session(**row._asdict())


def touch(tx: Tx, session: Session) -> None:
    """Store that the person used the session now."""
    tx.connection.execute(update(table).where(table.c.id == session.id).values(seen_at=tx.now))


def list_open(connection: Connection, person: str | None = None) -> list[Session]:
    """Return the sessions that were not ended, newest first; their limits may have passed."""
    statement = select(table).where(table.c.ended_at.is_(None)).order_by(table.c.created_at.desc())
    if person is not None:
        statement = statement.where(table.c.person == person)
    return [Session(**row._asdict()) for row in connection.execute(statement)]


def end(tx: Tx, cookie: str, actor: str) -> None:
    """End the session of a cookie."""
    _end(tx, table.c.id == session_id(cookie), actor, "signed out")


def end_all(tx: Tx, people: Collection[str], actor: str, why: str) -> int:
    """End all sessions of these people. Return how many were ended."""
    return _end(tx, table.c.person.in_(sorted(people)), actor, why)


def end_by_credential(tx: Tx, credentials: Collection[str], actor: str) -> int:
    """End all sessions of operator tokens that were removed from the people file. Return how many were ended."""
    why = "the operator token was removed from the people file"
    return _end(tx, table.c.credential.in_(sorted(credentials)), actor, why)


def _end(tx: Tx, which: ColumnElement[bool], actor: str, why: str) -> int:
    open_now = select(table.c.id, table.c.person).where(which, table.c.ended_at.is_(None), table.c.expires_at > tx.now)
    found = tx.connection.execute(open_now).all()
    tx.connection.execute(
        update(table).where(which, table.c.ended_at.is_(None)).values(ended_at=tx.now, ended_by=actor[:320])
    )
    for row in found:
        data = {"session": row.id[:12], "person": row.person}
        tx.append_audit(Draft(kind=Kind.SESSION_ENDED, actor=actor, reason=why, data=data))
    return len(found)
