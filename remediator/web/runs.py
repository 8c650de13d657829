"""``/api/v1/runs``: what is being done and was done, as JSON."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from remediator import story
from remediator.records import runs
from remediator.service import Service

Handler = Callable[[Request], Awaitable[Response]]


def listing(service: Service) -> Handler:
    """``GET /api/v1/runs?open=true&limit=50``: newest first."""

    async def get(request: Request) -> Response:
        asked = request.query_params
        limit = asked.get("limit", "50")
        if not limit.isdigit() or not 1 <= int(limit) <= 500:
            return JSONResponse({"error": "limit must be a number from 1 to 500"}, 400)
        open_only = asked.get("open", "").lower() in ("1", "true")
        found = await service.engine.store.read(
            lambda connection: runs.page(
                connection,
                int(limit),
                open_only=open_only,
                playbook=asked.get("playbook"),
                target=asked.get("target"),
                status=asked.get("status"),
            )
        )
        return JSONResponse([story.summary(run) for run in found])

    return get


def one(service: Service) -> Handler:
    """``GET /api/v1/runs/{id}``: a run with its timeline."""

    async def get(request: Request) -> Response:
        run_id = request.path_params["run_id"]
        told = await service.engine.store.read(lambda connection: story.tell(connection, run_id))
        if told is None:
            return JSONResponse({"error": f"there is no run {run_id[:64]}"}, 404)
        return JSONResponse(story.as_data(told))

    return get
