"""The console's forms that change something: stops, and start, cancel, retry, undo of runs, and comments."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from remediator.core.approval import Permission, Person
from remediator.core.clock import parse_duration
from remediator.core.run import Run
from remediator.errors import InputError
from remediator.pipeline import decisions, manual_start, manual_undo, stop_commands
from remediator.pipeline.context import PipelineContext
from remediator.pipeline.manual_start import StartRequest
from remediator.service import Service
from remediator.storage import Tx
from remediator.storage.repositories.comments import CommentKind
from remediator.web.site import HEADERS, Site, page_of


async def create_stop(site: Site, request: Request, person: Person, fields: Mapping[str, str]) -> Response:
    """Answer ``POST /stop``."""
    reason = fields.get("reason", "")[:500]
    person.require(Permission.CREATE_STOP)
    scope, name = fields.get("scope", "global"), fields.get("name", "").strip()
    if scope == "global" and name:
        raise InputError(f"the stop is for everything, and has the name {name[:64]!r}; choose one service or playbook")
    if fields.get("confirm") != "yes":
        raise InputError("the stop is not confirmed; tick the box above the button")
    duration = stop_duration(fields.get("duration", ""))
    check_stop_name(site.service, scope, name)
    await site.service.context.store.write(
        lambda tx: stop_commands.create_stop(tx, person, reason, scope, name, duration)
    )
    return RedirectResponse(page_of(request, fields), 303, HEADERS)


def check_stop_name(service: Service, scope: str, name: str) -> None:
    """Check that the playbook of a stop is loaded or used by a run, or that its service is in the inventory.

    Raises:
        InputError: it is not; the error names the closest match.
    """
    loaded = service.context.playbooks
    stop_commands.require_known(scope, name, {item.name for item in loaded.versions()}, list(loaded.inventory.services))


def stop_duration(text: str) -> timedelta | None:
    """Return how long a stop lasts, or None if it lasts until it is released.

    Raises:
        InputError: the text is not a duration.
    """
    return parse_duration(text.strip()) if text.strip() else None


async def release_stop(site: Site, request: Request, person: Person, fields: Mapping[str, str]) -> Response:
    """Answer ``POST /stops/<id>/release``."""
    stop_id = request.path_params["stop_id"]
    await site.service.context.store.write(lambda tx: stop_commands.release_stop(tx, person, stop_id))
    return RedirectResponse(page_of(request, fields), 303, HEADERS)


async def start(site: Site, request: Request, person: Person, fields: Mapping[str, str]) -> Response:
    """Answer ``POST /runs``: start a run by hand.

    Fields: ``playbook``, ``service``, ``reason``, and ``param.NAME`` for each parameter.
    """
    given = {name.removeprefix("param."): value for name, value in fields.items() if name.startswith("param.")}
    wanted = StartRequest(
        fields.get("playbook", ""),
        fields.get("service", ""),
        {name: value for name, value in given.items() if value},
        fields.get("reason", "")[:500],
    )
    context = site.service.context
    made = await context.store.write(lambda tx: start_run(tx, context, person, wanted))
    return RedirectResponse(f"/runs/{made.id}", 303, HEADERS)


def start_run(tx: Tx, context: PipelineContext, person: Person, request: StartRequest) -> Run:
    """Start a run by hand, with the loaded playbooks and inventory. Raises what :func:`manual_start.start` raises."""
    return manual_start.start(tx, person, context.playbooks, request, context.timeouts.incident_window, context.ids)


async def undo(site: Site, request: Request, person: Person, fields: Mapping[str, str]) -> Response:
    """Answer ``POST /runs/<id>/undo``. Fields: ``reason``, ``confirm``."""
    run_id, reason, confirm = (
        request.path_params["run_id"],
        fields.get("reason", "")[:500],
        fields.get("confirm", ""),
    )
    await site.service.context.store.write(lambda tx: manual_undo.request_undo(tx, person, run_id, reason, confirm))
    return RedirectResponse(f"/runs/{run_id}", 303, HEADERS)


async def comment(site: Site, request: Request, person: Person, fields: Mapping[str, str]) -> Response:
    """Answer ``POST /runs/<id>/comments`` and ``POST /incidents/<id>/comments``.

    Fields: ``text``, ``acknowledge`` (any value: the person takes care of it).
    """
    name = request.path_params.get("run_id") or request.path_params["incident_id"]
    kind = CommentKind.ACKNOWLEDGEMENT if fields.get("acknowledge") else CommentKind.COMMENT
    text = fields.get("text", "")
    await site.service.context.store.write(lambda tx: decisions.comment(tx, person, name, text, kind))
    return RedirectResponse(request.url.path.removesuffix("/comments"), 303, HEADERS)


async def cancel(site: Site, request: Request, person: Person, fields: Mapping[str, str]) -> Response:
    """Answer ``POST /runs/<id>/cancel``."""
    run_id, reason = request.path_params["run_id"], fields.get("reason", "")[:500]
    await site.service.context.store.write(lambda tx: decisions.cancel(tx, person, run_id, reason))
    return RedirectResponse(f"/runs/{run_id}", 303, HEADERS)


async def retry(site: Site, request: Request, person: Person, fields: Mapping[str, str]) -> Response:
    """Answer ``POST /runs/<id>/retry``."""
    run_id, reason = request.path_params["run_id"], fields.get("reason", "")[:500]
    context = site.service.context
    made = await context.store.write(lambda tx: decisions.retry(tx, person, run_id, context.playbooks, reason))
    return RedirectResponse(f"/runs/{made.id}", 303, HEADERS)
