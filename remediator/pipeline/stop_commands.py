"""Stops, as people create and release them: each command in one transaction."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta

from remediator.core.approval import Permission, Person
from remediator.core.ids import Ids
from remediator.core.message import MessageKind
from remediator.errors import InputError, NotFound
from remediator.playbooks.diagnostics import did_you_mean
from remediator.storage import Tx
from remediator.storage.repositories import outbox, stops

MAX_STOP_DURATION = timedelta(days=366)
_DOUBLE_CLICK = timedelta(seconds=10)


def require_known(scope: str, name: str, playbooks: Collection[str], services: Collection[str]) -> None:
    """Refuse a stop for an unknown name: a name with a typing error would stop nothing. Ignores a missing name.

    Raises:
        NotFound: there is no playbook or service of this name.
    """
    known = {"playbook": playbooks, "service": services}.get(scope)
    if known is None or not name or name in known:
        return
    hint = did_you_mean(name, known)
    raise NotFound(
        f"there is no {scope} {name[:64]!r}{f'; {hint}' if hint else ''}; to stop everything, leave out the name"
    )


def create_stop(
    tx: Tx,
    person: Person,
    reason: str,
    scope: str = "global",
    name: str = "",
    duration: timedelta | None = None,
    request_id: str = "",
) -> str:
    """Create a stop; returns its ID. The same request within ten seconds (a double click) creates one stop.

    Args:
        tx: the transaction.
        person: who creates it.
        reason: why; all users see it.
        scope: ``global``, ``playbook`` or ``service``.
        name: of the playbook or service.
        duration: how long it lasts; None: until a person releases it.
        request_id: ID of this request, if the caller knows one, so that a repetition creates no second stop.

    Raises:
        PermissionDenied: the role is not sufficient.
        InputError: no reason, an unknown scope, a missing or unexpected name, or a wrong duration.
    """
    person.require(Permission.CREATE_STOP)
    reason = reason.strip()
    if not reason:
        raise InputError("a stop needs a reason, such as 'database move'; all users see this reason")
    if scope not in stops.SCOPES:
        raise InputError(f"unknown scope {scope!r}: expected one of {', '.join(stops.SCOPES)}")
    if (scope == "global") != (name == ""):
        raise InputError("a stop for a playbook or a service needs its name; a global stop has no name")
    if duration is not None and not timedelta(seconds=1) <= duration <= MAX_STOP_DURATION:
        raise InputError("duration must be between 1 second and 1 year, for example 30m")
    if request_id and stops.get(tx.connection, request_id) is not None:
        return request_id
    redacted = tx.redact(reason)
    for stop in stops.list_active(tx.connection, tx.now):
        same = (stop.scope, stop.name, stop.created_by, stop.reason) == (scope, name, person.id, redacted)
        if same and stop.expires_at is None and tx.now - stop.created_at < _DOUBLE_CLICK:
            return stop.id
    stop_id = request_id or Ids().new("stop", tx.now)
    until = None if duration is None else tx.now + duration
    if not stops.create(tx, stop_id, scope, name, reason, person.id, until):
        return stop_id
    what = "everything" if scope == "global" else f"{scope} {name}"
    end = "until an operator releases it" if until is None else f"until {until:%Y-%m-%d %H:%M:%S}Z"
    _announce_stop(tx, f"Stopped by {person.id}: {what}, {end}: {redacted}")
    return stop_id


def _announce_stop(tx: Tx, text: str) -> None:
    """Notify all recipients of requests that a stop began or ended, because it affects their alerts."""
    outbox.enqueue(tx, Ids(), MessageKind.NOTICE, None, {"about": "stop", "text": text}, (outbox.APPROVERS,))


def release_stop(tx: Tx, person: Person, stop_id: str) -> bool:
    """Release a stop; returns False if it is not active.

    Raises:
        PermissionDenied: the role is not sufficient.
    """
    person.require(Permission.RELEASE_STOP)
    stop = stops.get(tx.connection, stop_id)
    released = stops.release(tx, stop_id, person.id)
    if stop is not None and released:
        _announce_stop(tx, f"Stop released by {person.id}: {stop.subject}. It was: {stop.reason}")
    return released
