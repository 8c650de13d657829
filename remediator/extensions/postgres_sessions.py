"""The common parts of actions and checks for sessions of PostgreSQL: blocking and protected sessions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from remediator.clients.postgres.client import PinnedSession
from remediator.clients.postgres.connection import APPLICATION
from remediator.clients.postgres.models import Session
from remediator.clients.postgres.settings import PostgresEndpoint
from remediator.core.text import join_names
from remediator.errors import TargetError

_NAMED = 10


def why_protected(session: Session, endpoint: PostgresEndpoint) -> str:
    """Return why a session is never ended or cancelled; empty if it can be.

    Background processes are never touched. Among them are the senders of WAL, and the autovacuum workers that prevent a
    wraparound of transaction IDs.
    """
    if not session.is_client:
        return f"it is a {session.kind or 'background process'}"
    if session.superuser:
        return f"{session.user} is a superuser"
    if session.own or session.application == APPLICATION or session.application.startswith(f"{APPLICATION} "):
        return "it is a session of remediator"
    if session.user in endpoint.protected.users:
        return f"the inventory protects the role {session.user}"
    if session.application in endpoint.protected.applications:
        return f"the inventory protects the application {session.application}"
    return ""


@dataclass(frozen=True, slots=True)
class Blocker:
    """The root of a chain of locks: it blocks others and waits for no lock itself."""

    pid: int
    """0 for a prepared transaction."""
    session: Session | None
    """None for a prepared transaction, and for a session that has ended."""
    waiting: int
    """Number of sessions that wait for it, directly or behind other sessions."""
    longest: float
    """Longest of their waits, in seconds."""


def root_blockers(sessions: Iterable[Session]) -> tuple[Blocker, ...]:
    """Return the roots of all chains of locks, the root with the longest wait first."""
    by_pid = {session.pid: session for session in sessions}
    waits: dict[int, list[float]] = {}
    for session in by_pid.values():
        if session.waiting is not None:
            for root in _roots(session, by_pid):
                waits.setdefault(root, []).append(session.waiting)
    found = (Blocker(pid, by_pid.get(pid), len(each), max(each)) for pid, each in waits.items())
    return tuple(sorted(found, key=lambda each: (-each.longest, each.pid)))


def _roots(session: Session, by_pid: Mapping[int, Session]) -> set[int]:
    """Return the ends of the chains in front of a waiting session. A deadlock has no end; the server resolves it."""
    seen, ahead, roots = {session.pid}, list(session.blocked_by), set()
    while ahead:
        pid = ahead.pop()
        if pid in seen:
            continue
        seen.add(pid)
        other = by_pid.get(pid)
        if other is not None and other.blocked_by:
            ahead += other.blocked_by
        else:
            roots.add(pid)
    return roots


def session_facts(session: Session, endpoint: PostgresEndpoint) -> dict[str, Any]:
    """Return a session as evidence. Its query is shown without values."""
    return {
        "pid": session.pid,
        "user": session.user,
        "database": session.database,
        "application": session.application,
        "client": session.client,
        "state": session.state or session.kind,
        "seconds": round(session.in_state, 1),
        "query": session.query,
        "protected": why_protected(session, endpoint),
    }


def by_application(sessions: Iterable[Session]) -> list[dict[str, Any]]:
    """Return the clients by application and role, most sessions first."""
    groups: dict[tuple[str, str], list[Session]] = {}
    for session in sessions:
        if session.is_client:
            groups.setdefault((session.application, session.user), []).append(session)
    ordered = sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))
    return [
        {
            "application": application,
            "user": user,
            "connections": len(each),
            "active": sum(session.state == "active" for session in each),
            "idle": sum(session.state == "idle" for session in each),
            "idle_in_transaction": sum(session.is_idle_in_transaction for session in each),
            "longest_idle": round(max((item.in_state for item in each if item.state == "idle"), default=0.0), 1),
        }
        for (application, user), each in ordered
    ]


def planned_sessions(
    sessions: Iterable[Session], matching: Sequence[Session], endpoint: PostgresEndpoint, limit: int
) -> list[Session]:
    """Return the sessions to act on, those that are in their state for the longest time first.

    Raises:
        TargetError: no session meets the conditions, or all that do are protected.
    """
    protected = {session.pid: why_protected(session, endpoint) for session in matching}
    free = sorted((item for item in matching if not protected[item.pid]), key=lambda each: (-each.in_state, each.pid))
    if free:
        return free[:limit]
    if matching:
        why = "; ".join(f"{session.text}: {protected[session.pid]}" for session in matching[:_NAMED])
        raise TargetError(f"all sessions that meet the conditions are protected: {why}")
    clients = sum(session.is_client for session in sessions)
    raise TargetError(f"none of the {clients} client sessions meets the conditions")


def session_names(chosen: Sequence[Session]) -> str:
    """Return the first sessions for the text of a plan."""
    return join_names([session.text for session in chosen], _NAMED)


def pinned(chosen: Sequence[Session]) -> list[dict[str, Any]]:
    """Return the identity and state of sessions, for the arguments of a call."""
    return [
        {"pid": each.pid, "began": each.began.isoformat(), "state_since": each.state_since.isoformat()}
        for each in chosen
        if each.state_since is not None
    ]


def pins(arguments: Mapping[str, Any]) -> Iterator[PinnedSession]:
    """Yield the sessions of the arguments of a call."""
    for each in arguments["sessions"]:
        moments = (datetime.fromisoformat(each[key]) for key in ("began", "state_since"))
        yield PinnedSession(int(each["pid"]), *moments)
