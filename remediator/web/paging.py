"""Paging through runs. A page starts after the last run of the previous page, so every page is equally fast."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection
from starlette.datastructures import QueryParams

from remediator.core.clock import from_micros, is_duration, parse_duration, to_micros
from remediator.core.run import Run, Status
from remediator.core.severity import SEVERITIES
from remediator.errors import InputError, NotFound
from remediator.storage.repositories import runs

Position = tuple[datetime, str]


def cursor_after(run: Run) -> str:
    """Return the cursor for the page that starts after this run."""
    return f"{to_micros(run.created_at)}~{run.id}"


def parse_cursor(text: str) -> Position | None:
    """Return the position of a cursor, or None (the first page) if the cursor is malformed."""
    micros, _, run_id = text.partition("~")
    if not micros.isascii() or not micros.isdigit() or len(micros) > 17 or not run_id:
        return None
    return from_micros(int(micros)), run_id[:64]


def query_runs(connection: Connection, query: QueryParams | Mapping[str, str], limit: int) -> Sequence[Run]:
    """Return the runs that match the query parameters of the API.

    Raises:
        InputError: ``status`` is unknown, a time is invalid, or there is no run ``before``.
    """
    filters: dict[str, Any] = {name: query.get(name) for name in ("playbook", "target", "status", "severity")}
    if filters["status"] not in (None, *(status.value for status in Status)):
        raise InputError(f"unknown status {str(filters['status'])[:64]!r}: expected one of {', '.join(Status)}")
    if filters["severity"] not in (None, *SEVERITIES):
        raise InputError(f"unknown severity {str(filters['severity'])[:64]!r}: expected one of {', '.join(SEVERITIES)}")
    filters |= {name: parse_moment(name, query[name]) for name in ("since", "until") if name in query}
    before = query.get("before")
    last = None if before is None else runs.get(connection, before)
    if before is not None and last is None:
        raise NotFound(f"before: there is no run {before[:64]!r}")
    position = None if last is None else (last.created_at, last.id)
    only = runs.RunFilter(open_only=parse_flag(query, "open"), **filters)
    return runs.list_page(connection, limit, position, only)


def parse_flag(query: QueryParams | Mapping[str, str], name: str) -> bool:
    """Return a boolean of a query; false if it is missing.

    Raises:
        InputError: it is neither true nor false.
    """
    text = query.get(name, "false")
    if text not in ("true", "false"):
        raise InputError(f"{name}: expected true or false, not {text[:64]!r}")
    return text == "true"


def parse_moment(name: str, text: str) -> datetime:
    """Return a time of a query: RFC 3339, or a duration before now.

    Raises:
        InputError: it is neither.
    """
    if is_duration(text):
        return datetime.now(UTC) - parse_duration(text)
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise InputError(
            f"{name}: expected a time like 2026-01-31T08:00:00Z, or a duration like 2h, not {text[:64]!r}"
        ) from None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)
