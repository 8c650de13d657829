"""Where a page of runs goes on: after the last run of the one before, so that the last is as quick as the first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy import Connection
from starlette.datastructures import QueryParams

from remediator.core.clock import from_micros, to_micros
from remediator.core.run import Run, Status
from remediator.errors import InputError
from remediator.storage.repositories import runs

Place = tuple[datetime, str]


def cursor_after(run: Run) -> str:
    """What the link to the next page says."""
    return f"{to_micros(run.created_at)}~{run.id}"


def cursor(text: str) -> Place | None:
    """The place that a link named; None, which is the beginning, for whatever is none."""
    micros, _, run_id = text.partition("~")
    if not micros.isascii() or not micros.isdigit() or len(micros) > 17 or not run_id:
        return None
    return from_micros(int(micros)), run_id[:64]


def asked_for(connection: Connection, asked: QueryParams | Mapping[str, str], limit: int) -> Sequence[Run]:
    """The runs that a program asks for.

    Raises:
        InputError: there is no such status, or no such run to go on from.
    """
    wanted = {name: asked.get(name) for name in ("playbook", "target", "status")}
    if wanted["status"] not in (None, *(status.value for status in Status)):
        raise InputError(f"there is no status {str(wanted['status'])[:64]!r}; there are: {', '.join(Status)}")
    before = asked.get("before")
    last = None if before is None else runs.get(connection, before)
    if before is not None and last is None:
        raise InputError(f"before: there is no run {before[:64]}")
    place = None if last is None else (last.created_at, last.id)
    open_only = asked.get("open", "").lower() in ("1", "true")
    return runs.page(connection, limit, place, open_only=open_only, **wanted)
