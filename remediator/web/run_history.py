"""The list of runs: search, filters that are saved in the URL, and paging."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from sqlalchemy import Connection
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response

from remediator.core.clock import parse_moment
from remediator.core.run import Run, Status
from remediator.core.severity import SEVERITIES
from remediator.errors import InputError
from remediator.storage.repositories import episodes, runs
from remediator.web import paging
from remediator.web.authentication import RequestIdentity
from remediator.web.paging import Position
from remediator.web.site import Site

PAGE_SIZE = 50
_RANGES = {"1h": timedelta(hours=1), "1d": timedelta(days=1), "7d": timedelta(days=7), "30d": timedelta(days=30)}
"""The periods that one link selects, up to now."""
_MAX_TARGETS = 500
_NAMES = ("status", "playbook", "target", "severity")


@dataclass(frozen=True, slots=True)
class RunFilters:
    """The filters of the list, as the URL has them."""

    search: str
    names: Mapping[str, str | None]
    """Status, playbook, target and severity; None: any."""
    last: str
    """A period up to now, such as ``1d``; possibly empty."""
    since: datetime | None
    until: datetime | None

    @classmethod
    def parse(cls, query: QueryParams, now: datetime) -> RunFilters:
        """Return the filters of a URL. Malformed filters are ignored, so that an old bookmark shows something."""
        last = query.get("last", "") if query.get("last", "") in _RANGES else ""
        since = now - _RANGES[last] if last else _instant(query.get("since", ""), now)
        return cls(
            query.get("q", "").strip()[:200],
            {name: query.get(name, "").strip()[:200] or None for name in _NAMES},
            last,
            since,
            None if last else _instant(query.get("until", ""), now),
        )

    def url(self, **changes: str) -> str:
        """Return the URL of the list with these filters, and with some of them changed."""
        said = {"q": self.search, **{name: value or "" for name, value in self.names.items()}, "last": self.last}
        if not self.last:
            said |= {"since": field_value(self.since), "until": field_value(self.until)}
        said |= changes
        kept = {name: value for name, value in said.items() if value}
        return f"/runs?{urlencode(kept)}" if kept else "/runs"


def field_value(at: datetime | None) -> str:
    """Format a time for a field of type ``datetime-local``, in UTC."""
    return "" if at is None else f"{at:%Y-%m-%dT%H:%M}"


def _instant(text: str, now: datetime) -> datetime | None:
    with suppress(InputError):
        return parse_moment(text, now)
    return None


async def run_history(site: Site, request: Request, identity: RequestIdentity) -> Response:
    """Answer ``GET /runs``."""
    filters = RunFilters.parse(request.query_params, site.now)
    before = paging.parse_cursor(request.query_params.get("before", ""))
    found = await site.service.context.store.view(lambda connection: _search(connection, filters, before))
    shown = found[:PAGE_SIZE]
    loaded = site.service.context.playbooks
    chosen = filters.names["target"]
    # limit of the names that the form offers; its search field accepts every name
    names = sorted(loaded.inventory.services)[:_MAX_TARGETS]
    return site.render(
        request,
        identity,
        "runs.html",
        runs=shown,
        filters=filters,
        since=field_value(filters.since) if not filters.last else "",
        until=field_value(filters.until),
        ranges=list(_RANGES),
        older=filters.url(before=paging.cursor_after(shown[-1])) if len(found) > PAGE_SIZE else "",
        first=before is None,
        choices={
            "status": [status.value for status in Status],
            "playbook": [playbook.name for playbook in loaded.active],
            "target": names if chosen is None or chosen in names else [chosen, *names],
            "severity": SEVERITIES,
        },
        live=False,
    )


def _search(connection: Connection, filters: RunFilters, before: Position | None) -> list[Run]:
    """Return one run more than a page.

    The runs are selected by filters, and by the ID of a run or episode, or the name of a service, playbook or alert.
    """
    if not filters.search:
        return _by_filters(connection, filters, filters.names, before)
    exact = runs.get(connection, filters.search)
    if exact is not None:
        return [exact]
    of_alert = episodes.run_ids_of_alert(
        connection, filters.search, PAGE_SIZE + 1, before, (filters.since, filters.until), **filters.names
    )
    found = {run.id: run for run_id in of_alert if (run := runs.get(connection, run_id)) is not None}
    for field in ("playbook", "target"):
        if filters.names[field] not in (None, filters.search):
            continue  # the filter asks for another name, so no run matches both
        more = _by_filters(connection, filters, {**filters.names, field: filters.search}, before)
        found.update((run.id, run) for run in more)
    return sorted(found.values(), key=lambda run: (run.created_at, run.id), reverse=True)[: PAGE_SIZE + 1]


def _by_filters(
    connection: Connection, filters: RunFilters, names: Mapping[str, Any], before: Position | None
) -> list[Run]:
    only = runs.RunFilter(**names, since=filters.since, until=filters.until)
    return runs.list_page(connection, PAGE_SIZE + 1, before, only)
