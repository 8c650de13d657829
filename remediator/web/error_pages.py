"""What is answered where nothing else answers: no such page, a method that a page does not have, a form that is none, a
defect of ours. A page for browsers, JSON for programs; never a traceback, and nothing of what went wrong inside."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from remediator.web.site import HEADERS, Site

Handlers = Mapping[Any, Callable[[Request, Any], Awaitable[Response]]]

_DEFECT = "This is a defect of the remediator, and its log says more. Nothing that was on record is changed by it."


def handlers(site: Site) -> Handlers:
    """For Starlette, by exception."""

    async def refused(request: Request, error: HTTPException) -> Response:
        title, text = _words(request, error)
        return _answer(site, request, error.status_code, title, text, error.headers or {})

    async def defect(request: Request, error: Exception) -> Response:
        return _answer(site, request, 500, "Something went wrong", _DEFECT, {})

    return {HTTPException: refused, Exception: defect}


def _words(request: Request, error: HTTPException) -> tuple[str, str]:
    if error.status_code == 404:
        return "There is no such page", f"Nothing is at {request.url.path[:200]}."
    if error.status_code == 405:
        answers = (error.headers or {}).get("Allow", "another method")
        return "Not like this", f"{request.url.path[:200]} answers {answers}, not {request.method[:20]}."
    return "This cannot be answered", str(error.detail)


def _answer(site: Site, request: Request, status: int, title: str, text: str, headers: Mapping[str, str]) -> Response:
    if request.url.path.startswith("/api/") or "text/html" not in request.headers.get("accept", ""):
        return JSONResponse({"error": text}, status, {**HEADERS, **headers})
    response = site.sorry(request, site.visitor(request), status, title, text)
    response.headers.update(headers)
    return response
