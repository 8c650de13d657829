"""The console's forms that change something: create and release stops, cancel and retry runs."""

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


def create_stop(site: Site) -> Handler:
    """Return the handler of ``POST /stop``."""

    async def post(request: Request, person: Person, fields: Mapping[str, str]) -> Response:
        reason = fields.get("reason", "")[:500]
        scope, _, name = fields.get("what", "global").partition(":")
        duration = stop_duration(fields.get("duration", ""))
        check_stop_name(site.service, scope, name)
        await site.service.context.store.write(
            lambda tx: decisions.create_stop(tx, person, reason, scope, name, duration)
        )
        return RedirectResponse("/", 303, HEADERS)

    return site.form(post)


def check_stop_name(service: Service, scope: str, name: str) -> None:
    """Check that the playbook of a stop is loaded or used by a run, or that its service is in the inventory.

    Raises:
        InputError: it is not; the error names the closest match.
    """
    loaded = service.context.playbooks
    decisions.require_known(scope, name, {item.name for item in loaded.versions()}, list(loaded.inventory.services))


def stop_duration(text: str) -> timedelta | None:
    """Return how long a stop lasts, or None if it lasts until it is released.

    Raises:
        InputError: the text is not a duration.
    """
    return parse_duration(text.strip()) if text.strip() else None


def release_stop(site: Site) -> Handler:
    """Return the handler of ``POST /stops/<id>/release``."""

    async def post(request: Request, person: Person, fields: Mapping[str, str]) -> Response:
        stop_id = request.path_params["stop_id"]
        await site.service.context.store.write(lambda tx: decisions.release_stop(tx, person, stop_id))
        return RedirectResponse("/", 303, HEADERS)

    return site.form(post)


def cancel(site: Site) -> Handler:
    """Return the handler of ``POST /runs/<id>/cancel``."""

    async def post(request: Request, person: Person, fields: Mapping[str, str]) -> Response:
        run_id, reason = request.path_params["run_id"], fields.get("reason", "")[:500]
        await site.service.context.store.write(lambda tx: decisions.cancel(tx, person, run_id, reason))
        return RedirectResponse(f"/runs/{run_id}", 303, HEADERS)

    return site.form(post)


def retry(site: Site) -> Handler:
    """Return the handler of ``POST /runs/<id>/retry``."""

    async def post(request: Request, person: Person, fields: Mapping[str, str]) -> Response:
        run_id, reason = request.path_params["run_id"], fields.get("reason", "")[:500]
        made = await site.service.context.store.write(lambda tx: retry_run(tx, site.service, person, run_id, reason))
        return RedirectResponse(f"/runs/{made.id}", 303, HEADERS)

    return site.form(post)


def retry_run(tx: Tx, service: Service, person: Person, run_id: str, reason: str) -> Run:
    """Start another run for the same incident, with the loaded version of its playbook.

    Raises:
        InputError: there is no such run, its playbook is not loaded, or its incident is over.
    """
    loaded = service.context.playbooks
    run = runs.get(tx.connection, run_id)
    if run is None:
        raise InputError(f"there is no run {run_id[:64]!r}")
    playbook = loaded.active_version(run.playbook)
    if playbook is None:
        raise InputError(f"cannot retry {run_id[:64]!r}: playbook {run.playbook!r} is not loaded any more")
    mode = autonomy.effective_mode(tx.connection, playbook.name, playbook.mode_in(loaded.environment))
    return decisions.retry(tx, person, run_id, playbook.content_hash, mode, reason)
