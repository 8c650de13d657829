"""Answers to requests that no handler accepts: unknown path, wrong method, malformed form, internal error.

Browsers get a page and programs get JSON. Neither contains a traceback or internal details.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import structlog
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Match, Route

from remediator.errors import ConfigurationError, StoreError
from remediator.web.authentication import NOBODY
from remediator.web.sign_in_guard import TooManyFailures
from remediator.web.site import HEADERS, Site

log: Any = structlog.get_logger("remediator.web.error_pages")
Handlers = Mapping[Any, Callable[[Request, Any], Awaitable[Response]]]

_INTERNAL_ERROR = (
    "The request failed because of an error in remediator. Recorded data is unchanged. See the service's log."
)

_NOT_CONFIGURED = "A file that the settings name cannot be used now. Nothing was changed. See the service's log."
"""The text omits the name of the file, because the caller may be unidentified."""


def handlers(site: Site) -> Handlers:
    """Return the exception handlers for Starlette."""

    async def rejected(request: Request, error: HTTPException) -> Response:
        path = request.url.path[:200]
        title, text = "The request is not valid", str(error.detail)
        if error.status_code == 404:
            title, text = "Page not found", f"There is no page {path}."
        elif error.status_code == 405:
            # the methods of all routes of a path; Starlette names only those of the first one
            found = {
                method
                for route in request.app.routes
                if isinstance(route, Route) and route.matches(request.scope)[0] is not Match.NONE
                for method in route.methods or ()
            }
            allowed = ", ".join(sorted(found))
            title, text = "Method not allowed", f"{path} accepts {allowed}, not {request.method[:20]}."
            return await _answer(site, request, error.status_code, title, text, {"Allow": allowed})
        return await _answer(site, request, error.status_code, title, text, error.headers or {})

    async def internal(request: Request, error: Exception) -> Response:
        return await _answer(site, request, 500, "Internal error", _INTERNAL_ERROR, {})

    async def not_configured(request: Request, error: ConfigurationError) -> Response:
        log.error("request refused, a file of the settings cannot be used", path=request.url.path, message=str(error))
        return await _answer(site, request, 503, "Not configured", _NOT_CONFIGURED, {})

    return {HTTPException: rejected, ConfigurationError: not_configured, Exception: internal}


async def _answer(
    site: Site, request: Request, status: int, title: str, text: str, headers: Mapping[str, str]
) -> Response:
    if request.url.path.startswith("/api/") or "text/html" not in request.headers.get("accept", ""):
        return JSONResponse({"error": text}, status, {**HEADERS, **headers})
    try:
        identity = await site.caller(request)
        await site.load_frame(request, identity)
    except (StoreError, TooManyFailures):
        identity = NOBODY
    response = site.error_page(request, identity, status, title, text)
    response.headers.update(headers)
    return response
