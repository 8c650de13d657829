"""Incidents in the API and on the console: the runs whose alerts belong together."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import Response

from remediator.core.approval import Permission
from remediator.errors import NotFound
from remediator.reporting.incidents import Incident, load_incident
from remediator.storage.repositories import comments, incidents, lookup, runs
from remediator.storage.repositories.comments import Comment
from remediator.web import paging
from remediator.web.api_request import ApiRequest
from remediator.web.authentication import RequestIdentity
from remediator.web.site import Site

PAGE_SIZE = 25
"""Number of incidents on a page."""


async def list_incidents(call: ApiRequest) -> Any:
    """List incidents; the incident with the newest run comes first."""
    limit, open_only = call.query.get("limit", 50), call.query.get("open", False)

    def read(connection: Connection) -> list[dict[str, Any]]:
        found = incidents.list_recent(connection, limit, open_only=open_only)
        return [item.to_data() for run in found if (item := load_incident(connection, run.incident_id)) is not None]

    return await call.read(read)


async def show_incident(call: ApiRequest) -> Any:
    """Show an incident with its runs, by its ID or the ID of one of its runs."""
    name = call.request.path_params["incident_id"]
    found: Incident | None = await call.read(
        lambda connection: load_incident(connection, lookup.incident_id(connection, name))
    )
    if found is None:
        raise NotFound(f"there is no incident {name[:64]!r}")
    return found.to_data()


async def incident_list(site: Site, request: Request, identity: RequestIdentity) -> Response:
    """Answer ``GET /incidents``: the incidents; the incident with the newest run comes first."""
    query = request.query_params
    open_only, before = query.get("open") == "true", paging.parse_cursor(query.get("before", ""))

    def read(connection: Connection) -> tuple[list[Incident], str]:
        newest = incidents.list_recent(connection, PAGE_SIZE + 1, open_only=open_only, before=before)
        shown = [load_incident(connection, run.incident_id) for run in newest[:PAGE_SIZE]]
        more = paging.cursor_after(newest[PAGE_SIZE - 1]) if len(newest) > PAGE_SIZE else ""
        return [item for item in shown if item is not None], more

    shown, cursor = await site.service.context.store.view(read)
    return site.render(
        request,
        identity,
        "incidents.html",
        incidents=shown,
        cursor=cursor,
        open_only=open_only,
        live=before is None,
    )


async def incident_page(site: Site, request: Request, identity: RequestIdentity) -> Response:
    """Answer ``GET /incidents/<id>``: its runs, alerts, best cause and notes."""
    name = request.path_params["incident_id"]

    def read(connection: Connection) -> tuple[Incident | None, list[Comment]]:
        run = runs.get(connection, name)
        wanted = name if run is None else run.incident_id
        said = [
            item
            for each in incidents.list_runs(connection, wanted)
            for item in comments.list_for_run(connection, each.id)
        ]
        return load_incident(connection, wanted), sorted(said, key=lambda item: (item.at, item.id))

    found, said = await site.service.context.store.view(read)
    if found is None:
        return site.error_page(request, identity, 404, "Incident not found", f"There is no incident {name[:64]!r}.")
    may_comment = identity.may(Permission.COMMENT)
    return site.render(
        request,
        identity,
        "incident.html",
        incident=found,
        comments=said,
        may_comment=may_comment,
        live=not found.over,
    )
