"""The audit log on a page: entries of people and runs first, with a consistency check of the newest entries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import Response

from remediator.audit import Head, Kind, NotCanonical, SealedEntry, decode
from remediator.reporting import request_text
from remediator.runtime import checkpointing
from remediator.runtime.retention import live_log_start
from remediator.storage.repositories import audit, key_values
from remediator.web.authentication import RequestIdentity
from remediator.web.site import Site

PAGE_SIZE = 50
INTAKE = tuple(kind.value for kind in Kind if kind.value.startswith(("notification.", "episode.")))
"""Kinds of entries about the arrival of alerts.

Most entries of the log are of these kinds, and they are hidden by default.
"""


@dataclass(frozen=True, slots=True)
class AuditRow:
    """One entry of the audit log, as shown."""

    seq: int
    time: datetime
    hash: str
    kind: str
    actor: str
    reason: str
    run: str | None
    data: str


async def audit_log(site: Site, request: Request, identity: RequestIdentity) -> Response:
    """Answer ``GET /audit``."""
    query = request.query_params
    filters = {name: query.get(name, "").strip()[:64] or None for name in ("run", "kind", "person")}
    intake = query.get("intake") == "yes"
    cursor = query.get("before", "")
    before = int(cursor) if cursor.isascii() and cursor.isdigit() and len(cursor) < 18 else None
    found = await site.service.context.store.view(lambda connection: _audit(connection, filters, before, intake))
    said = {name: value for name, value in filters.items() if value} | ({"intake": "yes"} if intake else {})
    return site.render(
        request,
        identity,
        "audit.html",
        filters=filters,
        intake=intake,
        query=urlencode(said),
        kinds=[kind.value for kind in Kind],
        people=sorted(site.service.access.people.people),
        live=False,
        **found,
    )


def _audit(
    connection: Connection, filters: Mapping[str, str | None], before: int | None, intake: bool
) -> dict[str, Any]:
    hidden = () if intake or filters["kind"] or filters["run"] else INTAKE
    found = audit.list_newest(
        connection, PAGE_SIZE + 1, before, filters["run"], filters["kind"], actor=filters["person"], hidden=hidden
    )
    shown = found[:PAGE_SIZE]
    head, checkpoint = audit.get_head(connection), key_values.get(connection, checkpointing.LATEST_CHECKPOINT)
    all_entries = not any(filters.values())
    checked = audit.list_newest(connection, PAGE_SIZE, before) if all_entries else shown
    return {
        "rows": [_audit_row(item) for item in shown],
        "head": head,
        "head_hash": head.hash.hex(),
        "broken": _first_broken(checked, head, newest=before is None, all_entries=all_entries),
        "checked": len(checked),
        "cursor": shown[-1].seq if len(found) > PAGE_SIZE else None,
        "checkpoint": None if checkpoint is None else checkpoint.value,
        "archived": live_log_start(connection).seq,
        "window": audit.WINDOW,
    }


def _first_broken(shown: Sequence[SealedEntry], head: Head, *, newest: bool, all_entries: bool) -> int | None:
    """Return the number of the first entry that is not consistent, or None.

    Every entry must match its hash. Without filters, every entry must also follow the previous entry. The newest page
    must end at the head of the log; otherwise, the last entries were deleted.
    """
    found = audit.find_broken(shown, contiguous=all_entries)
    if found is not None or not newest or not all_entries:
        return found
    ends_at_head = [(row.seq, row.hash) for row in shown[:1]] == [(head.seq, head.hash)]
    return None if ends_at_head or not head.seq else head.seq


def _audit_row(item: SealedEntry) -> AuditRow:
    known = (item.seq, item.time, item.hash.hex(), item.kind)
    data = request_text.sanitize(item.canonical.decode("utf-8", "replace"), 6000)
    try:
        entry = decode(item.canonical)
    except NotCanonical:  # the database was changed: the entry is shown, and reported as broken
        return AuditRow(*known, "cannot be read", "", item.run, data)
    return AuditRow(*known, entry.actor, entry.reason or "", entry.run, data)
