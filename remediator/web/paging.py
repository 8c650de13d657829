"""Paging through runs. A page starts after the last run of the previous page, so every page is equally fast."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from remediator.core.clock import from_micros, parse_moment, to_micros
from remediator.core.run import Run
from remediator.errors import NotFound
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


def query_runs(connection: Connection, query: Mapping[str, Any], now: datetime) -> Sequence[Run]:
    """Return the runs that match the query parameters of the API.

    Raises:
        InputError: a time is invalid.
        NotFound: there is no run ``before``.
    """
    filters: dict[str, Any] = {name: query.get(name) for name in ("playbook", "target", "status", "severity")}
    filters |= {name: parse_moment(query[name], now) for name in ("since", "until") if name in query}
    before = query.get("before")
    last = None if before is None else runs.get(connection, before)
    if before is not None and last is None:
        raise NotFound(f"before: there is no run {before[:64]!r}")
    position = None if last is None else (last.created_at, last.id)
    only = runs.RunFilter(open_only=query.get("open", False), **filters)
    return runs.list_page(connection, query.get("limit", 50), position, only)
