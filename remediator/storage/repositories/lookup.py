"""Find a run, an incident or an approval request by the beginning of its ID, or the newest one as ``@latest``."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Connection, case, select

from remediator.core.approval import ApprovalStatus
from remediator.errors import Conflict, NotFound
from remediator.storage.schema import approvals, runs

LATEST = "@latest"
MIN_PREFIX = 4
"""Characters of an ID, after its kind, that are enough if only one ID begins with them."""
_SHOWN = 3


def run_id(connection: Connection, name: str) -> str:
    """Return the ID of the run that a name means; the name itself if there is no such run.

    Args:
        connection: to the store.
        name: an ID, its beginning with or without ``run-``, or ``@latest``.

    Raises:
        Conflict: several IDs have this beginning.
        NotFound: there is no run yet.
    """
    return _find(connection, name, "run", runs.c.id, runs.c.created_at)


def incident_id(connection: Connection, name: str) -> str:
    """Return the ID of the incident that a name means, as :func:`run_id` does. The name of a run means its incident."""
    found = _find(connection, name, "incident", runs.c.incident_id, runs.c.created_at)
    if connection.execute(select(runs.c.id).where(runs.c.incident_id == found).limit(1)).first() is not None:
        return found
    run = connection.execute(select(runs.c.incident_id).where(runs.c.id == run_id(connection, name))).first()
    return found if run is None else str(run.incident_id)


def approval_id(connection: Connection, name: str) -> str:
    """Return the ID of the request that a name means, as :func:`run_id` does. ``@latest`` is the newest request.

    The name of a run means its open request, or its last request.
    """
    found = _find(connection, name, "approval", approvals.c.id, approvals.c.requested_at)
    if name == LATEST or connection.execute(select(approvals.c.id).where(approvals.c.id == found)).first():
        return found
    of_run = select(approvals.c.id).where(approvals.c.run_id == run_id(connection, name))
    pending_first = case((approvals.c.status == ApprovalStatus.PENDING.value, 0), else_=1)
    last = of_run.order_by(pending_first, approvals.c.requested_at.desc()).limit(1)
    return str(connection.execute(last).scalar() or name)


def _find(connection: Connection, name: str, kind: str, column: ColumnElement[str], newest: ColumnElement[Any]) -> str:
    if name == LATEST:
        latest = connection.execute(select(column).order_by(newest.desc(), column.desc()).limit(1)).scalar()
        if latest is None:
            raise NotFound(f"there is no {kind} yet, so {LATEST} does not exist")
        return latest
    if connection.execute(select(column).where(column == name).limit(1)).first() is not None:
        return name
    start = name if name.startswith(f"{kind}-") else f"{kind}-{name}"
    if len(start) < len(kind) + 1 + MIN_PREFIX:
        return name
    begins = column.startswith(start, autoescape=True)
    found = list(connection.execute(select(column).where(begins).distinct().limit(_SHOWN + 1)).scalars())
    if len(found) > 1:
        more = " and more" if len(found) > _SHOWN else ""
        raise Conflict(f"{name[:64]!r} is not one {kind}: {', '.join(sorted(found)[:_SHOWN])}{more}; write more of it")
    return found[0] if found else name
