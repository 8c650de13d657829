"""The API of the service itself: status, reports, inventory, playbooks and their modes, memory of remedies."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import Connection
from starlette.responses import Response

from remediator.config import Config
from remediator.core.approval import Permission
from remediator.core.clock import before, parse_duration, rfc3339
from remediator.errors import NotFound
from remediator.pipeline import decisions
from remediator.pipeline.context import PlaybookSet
from remediator.playbooks.diagnostics import did_you_mean
from remediator.playbooks.inventory import Inventory
from remediator.playbooks.model import Playbook
from remediator.reporting.period import promotion, render, statistics
from remediator.reporting.period.history import from_prometheus
from remediator.storage.repositories import autonomy, remedy_memory, runs, target_locks
from remediator.storage.repositories.remedy_memory import MemoryEntry
from remediator.web import service_answers as answers
from remediator.web.api_request import HEADERS, ApiRequest, Operations
from remediator.web.openapi import REASON, BodyField, Parameter, Span, bounded
from remediator.web.status import status_data

FORMATS = {
    "md": (render.markdown, "text/markdown; charset=utf-8"),
    "html": (render.html, "text/html; charset=utf-8"),
    "json": (render.as_json, "application/json"),
}
"""The formats of a report, each with its media type."""

_SINCE = Parameter("since", "query", "How far back, such as 12h or 7d (default: 30d).", Span)
_NAME = Parameter("name", "path", "Name of the playbook.")
_ENTRY = Parameter("entry_id", "path", "ID of the entry.")
_TARGET = Parameter("target", "query", "Only entries about this service.")
_REQUIRED_REASON = {"reason": f"Required. {REASON['reason']}"}

OPERATIONS = Operations()


@OPERATIONS.get("/status", answer=answers.Status)
async def show_status(call: ApiRequest) -> Any:
    """Show what blocks actions now, and the state of the service."""
    config, now = call.site.service.config, call.site.now
    return await call.read(lambda connection: status_data(connection, config, now))


@OPERATIONS.get(
    "/report",
    _SINCE,
    Parameter("format", "query", "json (default), md or html.", Literal[tuple(FORMATS)]),
    Parameter(
        "minutes_per_incident",
        "query",
        "Minutes of work per incident (default: 30).",
        bounded(float, 0, 10_000),
    ),
    answer=answers.Report,
    media=("text/markdown", "text/html"),
)
async def show_report(call: ApiRequest) -> Response:
    """Report the healed incidents, the recovery times, and the refused actions."""
    query = call.query
    since, format_ = query.get("since", "30d"), query.get("format", "json")
    minutes = query.get("minutes_per_incident", 30.0)
    config, now = call.site.service.config, call.site.now
    text = await call.read(lambda connection: report(connection, config, since, now, minutes, format_))
    return Response(text, 200, HEADERS, FORMATS[format_][1])


def report(connection: Connection, config: Config, since: str, now: datetime, minutes: float, format_: str) -> str:
    """Return the report of the time ``since`` before now, in one of :data:`FORMATS`.

    Raises:
        InputError: ``since`` is not a duration.
    """
    history = None if config.prometheus is None else from_prometheus(config.prometheus, parse_duration(since))
    asked = statistics.ReportRequest(before(now, since), now, config.environment, minutes, history)
    return FORMATS[format_][0](statistics.build_report(connection, asked))


@OPERATIONS.get(
    "/report/promotion", _SINCE, Parameter("playbook", "query", "Only this playbook."), answer=list[promotion.Evidence]
)
async def show_promotion(call: ApiRequest) -> Any:
    """Show the evidence for raising the mode of each playbook."""
    query, now = call.query, call.site.now
    since, playbook = query.get("since", "30d"), query.get("playbook")
    return await call.read(lambda connection: promotion_data(connection, since, playbook, now))


def promotion_data(connection: Connection, since: str, playbook: str | None, now: datetime) -> list[dict[str, Any]]:
    """Return the evidence for raising modes, as data with its text."""
    found = promotion.evidence(connection, before(now, since), playbook)
    return [promotion.as_json(item) for item in found]


@OPERATIONS.get("/inventory", answer=list[answers.Service])
async def show_inventory(call: ApiRequest) -> Any:
    """List services with dependencies and locks."""
    inventory = call.site.service.context.playbooks.inventory
    return await call.read(lambda connection: inventory_data(connection, inventory))


def inventory_data(connection: Connection, inventory: Inventory) -> list[dict[str, Any]]:
    """Return the services of the inventory as data."""
    holders = {run.target: run.id for run in target_locks.list_lock_holders(connection)}
    return [
        {
            "name": name,
            "platform": service.platform.kind,
            "source": inventory.source_of(name),
            "depends_on": list(service.depends_on),
            "needed_by": sorted(inventory.dependents(name)),
            "locked_by": holders.get(name),
        }
        for name in sorted(inventory.services)
        for service in (inventory.services[name],)
    ]


@OPERATIONS.get("/playbooks", answer=list[answers.Playbook])
async def list_playbooks(call: ApiRequest) -> Any:
    """List playbooks with their mode and results."""
    loaded = call.site.service.context.playbooks
    return await call.read(lambda connection: playbooks_data(connection, loaded))


def playbooks_data(connection: Connection, loaded: PlaybookSet) -> list[dict[str, Any]]:
    """Return the active playbooks as data: their modes, versions and results."""
    return [
        {
            "name": playbook.name,
            "summary": playbook.summary,
            "target": playbook.target,
            "mode": autonomy.effective_mode(connection, playbook.name, playbook.mode_in(loaded.environment)),
            "version": playbook.content_hash,
            "parameters": {
                name: {"type": item.type, "required": item.default is None, "description": item.description}
                for name, item in playbook.parameters.items()
                if item.label is not None
            },
            "results": runs.count_by_status(connection, playbook.name),
        }
        for playbook in loaded.active
    ]


@OPERATIONS.post(
    "/playbooks/{name}/mode",
    _NAME,
    body={
        "mode": BodyField(
            "Required. observe, shadow, approve or auto.", Literal["observe", "shadow", "approve", "auto"]
        ),
        **_REQUIRED_REASON,
    },
    permission=Permission.SET_MODE,
    answer=answers.ModeChanged,
)
async def set_mode(call: ApiRequest) -> Any:
    """Change the mode of a playbook until the mode in its file changes."""
    mode, reason = call.text("mode"), call.text("reason")
    loaded = call.site.service.context.playbooks
    playbook = find_playbook(loaded, call.request.path_params["name"])
    written = playbook.mode_in(loaded.environment)
    old = await call.write(lambda tx: decisions.set_mode(tx, call.caller, playbook.name, mode, written, reason))
    return {"playbook": playbook.name, "before": old, "mode": mode, "written": written}


def find_playbook(loaded: PlaybookSet, name: str) -> Playbook:
    """Return an active playbook.

    Raises:
        InputError: there is no playbook with this name; the error names the closest match.
    """
    found = loaded.active_version(name)
    if found is None:
        known = [item.name for item in loaded.active]
        raise NotFound(f"no playbook {name[:64]!r}; {did_you_mean(name, known) or 'see the list of playbooks'}")
    return found


@OPERATIONS.get("/memory", _TARGET, answer=list[MemoryEntry])
async def list_memory(call: ApiRequest) -> Any:
    """List the remembered releases and remedies."""
    target = call.query.get("target")
    return [memory_data(item) for item in await call.read(lambda found: remedy_memory.list_entries(found, target))]


def memory_data(entry: MemoryEntry) -> dict[str, Any]:
    """Return an entry of the memory as data."""
    return asdict(entry) | {"at": rfc3339(entry.at)}


@OPERATIONS.post(
    "/memory/{entry_id}/clear",
    _ENTRY,
    body=_REQUIRED_REASON,
    permission=Permission.CLEAR_MEMORY,
    answer=MemoryEntry,
)
async def clear_memory(call: ApiRequest) -> Any:
    """Allow a release to be restored again, or a remedy to run automatically again."""
    entry, reason = call.request.path_params["entry_id"], call.text("reason")
    return memory_data(await call.write(lambda tx: decisions.clear_memory(tx, call.caller, entry, reason)))
