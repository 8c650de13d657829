"""Forms of the console that change something: the stop button, cancel and retry."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from remediator.core.approval import Person
from remediator.core.clock import parse_duration
from remediator.core.run import Run
from remediator.errors import InputError
from remediator.pipeline import decisions
from remediator.service import Service
from remediator.storage import Tx
from remediator.storage.repositories import autonomy, runs
from remediator.web.site import HEADERS, Handler, Site


def stop(site: Site) -> Handler:
    """``POST /stop``: the stop button."""

    async def post(request: Request, person: Person, fields: Mapping[str, str]) -> Response:
        reason = fields.get("reason", "")[:500]
        scope, _, name = fields.get("what", "global").partition(":")
        lasts = span(fields.get("for", ""))
        known(site.service, scope, name)
        await site.service.context.store.write(lambda tx: decisions.pause(tx, person, reason, scope, name, lasts))
        return RedirectResponse("/", 303, HEADERS)

    return site.form(post)


def known(service: Service, scope: str, name: str) -> None:
    """See that there is such a playbook, in force or in use by a run, or such a service.

    Raises:
        InputError: there is none; it says which is near.
    """
    book = service.context.playbooks
    decisions.require_known(scope, name, {item.name for item in book.versions()}, list(book.inventory.services))


def span(text: str) -> timedelta | None:
    """How long a stop is to last; None if that is left open.

    Raises:
        InputError: it is no duration.
    """
    return parse_duration(text.strip()) if text.strip() else None


def release(site: Site) -> Handler:
    """``POST /stops/<id>/release``."""

    async def post(request: Request, person: Person, fields: Mapping[str, str]) -> Response:
        stop_id = request.path_params["stop_id"]
        await site.service.context.store.write(lambda tx: decisions.resume(tx, person, stop_id))
        return RedirectResponse("/", 303, HEADERS)

    return site.form(post)


def cancel(site: Site) -> Handler:
    """``POST /runs/<id>/cancel``."""

    async def post(request: Request, person: Person, fields: Mapping[str, str]) -> Response:
        run_id, reason = request.path_params["run_id"], fields.get("reason", "")[:500]
        await site.service.context.store.write(lambda tx: decisions.cancel(tx, person, run_id, reason))
        return RedirectResponse(f"/runs/{run_id}", 303, HEADERS)

    return site.form(post)


def retry(site: Site) -> Handler:
    """``POST /runs/<id>/retry``."""

    async def post(request: Request, person: Person, fields: Mapping[str, str]) -> Response:
        run_id, reason = request.path_params["run_id"], fields.get("reason", "")[:500]
        made = await site.service.context.store.write(lambda tx: again(tx, site.service, person, run_id, reason))
        return RedirectResponse(f"/runs/{made.id}", 303, HEADERS)

    return site.form(post)


def again(tx: Tx, service: Service, person: Person, run_id: str, reason: str) -> Run:
    """Another run for the same incident, by the playbook that is in force now.

    Raises:
        InputError: there is no such run or playbook, or nothing to do.
    """
    book = service.context.playbooks
    run = runs.get(tx.connection, run_id)
    playbook = None if run is None else book.current(run.playbook)
    if playbook is None:
        raise InputError(f"there is no run {run_id[:64]}, or its playbook is not in force any more")
    mode = autonomy.effective(tx.connection, playbook.name, playbook.mode_in(book.environment))
    return decisions.retry(tx, person, run_id, playbook.content_hash, mode, reason)
