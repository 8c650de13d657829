"""One call of the API: who calls, what was sent, and how errors are told."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from remediator.core.approval import Permission, PermissionDenied, Person
from remediator.errors import InputError, RemediatorError, StoreError
from remediator.web.authentication import RequestIdentity
from remediator.web.openapi import Operation
from remediator.web.site import Site

_LONGEST = 64 * 1024
SAFE = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}


class NotFound(RemediatorError):
    """There is no such thing."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call of the API."""

    site: Site
    request: Request
    person: Person | None
    body: Mapping[str, Any]

    def text(self, name: str, *, required: bool = False) -> str:
        """A text of the body.

        Raises:
            InputError: it is no text, or missing though it is required.
        """
        value = self.body.get(name, "")
        if not isinstance(value, str) or (required and not value.strip()):
            raise InputError(f"{name}: a text is expected")
        return value[:500]

    def whole(self, name: str, default: int, most: int) -> int:
        """A number of the query.

        Raises:
            InputError: it is none, or out of bounds.
        """
        text = self.request.query_params.get(name, str(default))
        if not text.isascii() or not text.isdigit() or len(text) > 18 or not 1 <= int(text) <= most:
            raise InputError(f"{name} must be a number from 1 to {most}")
        return int(text)

    @property
    def somebody(self) -> Person:
        """Who calls; operations that change something are only reached by somebody."""
        assert self.person is not None
        return self.person

    async def read(self, work: Callable[[Connection], Any]) -> Any:
        """Read the store."""
        return await self.site.service.context.store.read(work)

    async def write(self, work: Callable[[Any], Any]) -> Any:
        """Write to the store."""
        return await self.site.service.context.store.write(work)


Answer = Callable[[Call], Awaitable[Any]]


def handler(site: Site, operation: Operation, answer: Answer) -> Callable[[Request], Awaitable[Response]]:
    """What answers an operation's requests: whoever may not is told, and every error is one line of JSON."""

    async def handle(request: Request) -> Response:
        visitor = site.visitor(request)
        try:
            _admit(operation, request, visitor)
            body = await _body(request) if operation.method == "POST" else {}
            return JSONResponse(await answer(Call(site, request, visitor.person, body)), 200, SAFE)
        except _Unknown as error:
            return _error(401, str(error), {"WWW-Authenticate": "Bearer"})
        except PermissionDenied as error:
            return _error(403, str(error))
        except NotFound as error:
            return _error(404, str(error))
        except InputError as error:
            return _error(400, str(error))
        except StoreError as error:
            return _error(503, str(error))

    return handle


class _Unknown(RemediatorError):
    """Nobody whom we know."""


def _admit(operation: Operation, request: Request, visitor: RequestIdentity) -> None:
    if visitor.person is None and not (operation.power is Permission.SEE and visitor.stranger_may_look):
        raise _Unknown("send an operator token: Authorization: Bearer rmo_…")
    if visitor.person is not None:
        visitor.person.need(operation.power)
    if operation.method == "POST" and visitor.by_cookie:
        own = request.headers.get("sec-fetch-site", "same-origin") == "same-origin"
        if not own or not request.headers.get("content-type", "").startswith("application/json"):
            raise InputError("a browser may call this only from our own pages, with application/json")


async def _body(request: Request) -> Mapping[str, Any]:
    raw = b""
    async for chunk in request.stream():
        raw += chunk
        if len(raw) > _LONGEST:
            raise InputError(f"the body is longer than {_LONGEST} bytes")
    try:
        found = json.loads(raw or b"{}")
    except (ValueError, RecursionError):
        raise InputError("the body is not JSON") from None
    if not isinstance(found, dict):
        raise InputError("the body must be a JSON object")
    return found


def _error(status: int, message: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"error": " ".join(message.split())}, status, {**SAFE, **(headers or {})})
