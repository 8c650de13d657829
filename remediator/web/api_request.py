"""One request to the API: the caller, the body, and how errors become answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from remediator.core import untrusted_json
from remediator.core.approval import Permission, PermissionDenied, Person
from remediator.errors import Conflict, InputError, NotFound, RemediatorError, StoreError
from remediator.playbooks.diagnostics import did_you_mean
from remediator.storage.repositories import lookup
from remediator.web.authentication import RequestIdentity
from remediator.web.openapi import NOT_EMPTY, Operation, Parameter
from remediator.web.sign_in_guard import TooManyFailures
from remediator.web.site import Site, read_body

_MAX_BODY = 64 * 1024
HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "same-origin"}


class _Unauthenticated(RemediatorError):
    """The caller is not identified."""


@dataclass(frozen=True, slots=True)
class ApiRequest:
    """A request to one operation."""

    site: Site
    request: Request
    person: Person | None
    body: Mapping[str, Any]
    """The body, which has the type that the operation's description names."""
    query: Mapping[str, Any]
    """The values of the query, with the types that the description names."""

    def text(self, name: str, limit: int = 500) -> str:
        """Return a text of the body without spaces around it, at most ``limit`` characters; empty if it is missing."""
        return str(self.body.get(name, "")).strip()[:limit]

    def texts(self, name: str) -> dict[str, str]:
        """Return an object of the body whose values are strings; empty if it is missing."""
        return dict(self.body.get(name, {}))

    def flag(self, name: str) -> bool:
        """Return a boolean of the body; false if it is missing."""
        return bool(self.body.get(name, False))

    @property
    def caller(self) -> Person:
        """The caller. Operations that change something are only reached with one."""
        assert self.person is not None
        return self.person

    async def run_id(self) -> str:
        """Return the ID of the run in the path, which may be the beginning of an ID, or ``@latest``.

        Raises:
            InputError: several runs begin like this, or there is no run yet.
        """
        name = self.request.path_params["run_id"]
        found: str = await self.read(lambda connection: lookup.run_id(connection, name))
        return found

    async def read(self, work: Callable[[Connection], Any]) -> Any:
        """Read the store."""
        return await self.site.service.context.store.view(work)

    async def write(self, work: Callable[[Any], Any]) -> Any:
        """Write to the store."""
        return await self.site.service.context.store.write(work)


ApiHandler = Callable[[ApiRequest], Awaitable[Any]]
"""Returns the answer: data for JSON, or a response."""


class Operations(list[tuple[Operation, ApiHandler]]):
    """The operations of one part of the API, in the order of their definition."""

    def get(self, path: str, *parameters: Parameter, **more: Any) -> Callable[[ApiHandler], ApiHandler]:
        """Add an operation that reads, for the handler below. The docstring of the handler is its summary.

        Args:
            path: below ``/api/v1``.
            parameters: of the path and of the query.
            more: further fields of :class:`Operation`.
        """
        return self._adding("GET", path, parameters, more)

    def post(self, path: str, *parameters: Parameter, **more: Any) -> Callable[[ApiHandler], ApiHandler]:
        """Add an operation that may change something, as :meth:`get`."""
        return self._adding("POST", path, parameters, more)

    def _adding(
        self, method: str, path: str, parameters: tuple[Parameter, ...], more: dict[str, Any]
    ) -> Callable[[ApiHandler], ApiHandler]:
        def add(handle: ApiHandler) -> ApiHandler:
            about = {"summary": " ".join((handle.__doc__ or "").split()), "parameters": parameters, **more}
            self.append((Operation(method=method, path=f"/api/v1{path}", **about), handle))
            return handle

        return add


def handler(site: Site, operation: Operation, handle: ApiHandler) -> Callable[[Request], Awaitable[Response]]:
    """Return the handler of an operation. It checks the caller's role and answers each error as one line of JSON."""
    reader = RequestReader(operation)

    async def answer(request: Request) -> Response:
        try:
            identity = await site.caller(request)
            _check_caller(operation, request, identity)
            query = reader.read_query(request.query_params)
            body = await reader.read_body(request) if operation.method == "POST" else {}
            result = await handle(ApiRequest(site, request, identity.person, body, query))
            return result if isinstance(result, Response) else JSONResponse(result, 200, HEADERS)
        except _Unauthenticated as error:
            return _error(401, str(error), {"WWW-Authenticate": "Bearer"})
        except TooManyFailures as error:
            return _error(429, str(error), {"Retry-After": "60"})
        except PermissionDenied as error:
            await site.guard.denied(request, identity.person, error)
            return _error(403, str(error))
        except NotFound as error:
            return _error(404, str(error))
        except Conflict as error:
            return _error(409, str(error))
        except InputError as error:
            return _error(400, str(error))
        except StoreError as error:
            return _error(503, str(error))

    return answer


def _check_caller(operation: Operation, request: Request, identity: RequestIdentity) -> None:
    """Check identity, then role, then origin.

    Raises:
        _Unauthenticated: the operation needs an identified caller.
        PermissionDenied: the caller's role is not sufficient.
        InputError: a browser with a cookie sent the request, but not one of our own pages with JSON. A form of another
            site cannot send JSON, so a cookie alone never authorises a change.
    """
    reads = operation.method == "GET" and operation.permission is Permission.READ
    if identity.person is None and not (reads and identity.anonymous_read_allowed):
        if request.headers.get("authorization"):
            raise _Unauthenticated("no person has this operator token; make one with 'remediator approval token'")
        raise _Unauthenticated("send an operator token, for example 'Authorization: Bearer rmo_…'")
    if identity.person is not None:
        identity.person.require(operation.permission)
    if operation.method == "POST" and identity.by_cookie:
        same_origin = request.headers.get("sec-fetch-site", "same-origin") == "same-origin"
        if not same_origin or not request.headers.get("content-type", "").startswith("application/json"):
            raise InputError("a browser session may send only application/json, and only from the console's pages")


class RequestReader:
    """Reads the queries and bodies of one operation, and refuses those that its description does not allow."""

    def __init__(self, operation: Operation) -> None:
        self._operation = operation
        self._parameters = {item.name: item.text for item in operation.parameters if item.place == "query"}

    @cached_property
    def _query(self) -> TypeAdapter[Any]:  # made at the first request: all of them together would delay the start
        return TypeAdapter(self._operation.query_type())

    @cached_property
    def _fields(self) -> TypeAdapter[Any]:
        return TypeAdapter(self._operation.body_type())

    @cached_property
    def _forms(self) -> TypeAdapter[Any]:
        return TypeAdapter(self._operation.body_forms)

    def read_query(self, query: Mapping[str, str]) -> Mapping[str, Any]:
        """Return the typed values of a query.

        Raises:
            InputError: it has a parameter of another name, which would not filter anything, or a wrong value.
        """
        return _checked(self._query, dict(query), self._parameters, "the query has an unknown parameter")

    async def read_body(self, request: Request) -> Mapping[str, Any]:
        """Read the body of a request.

        Raises:
            InputError: it is too long, no JSON object, or not as the operation's description says. A wrongly typed
                ``dry_run`` must not start a run, and an empty ``scope`` must not stop everything.
        """
        raw = await read_body(request, _MAX_BODY)
        if raw is None:
            raise InputError(f"the body is longer than {_MAX_BODY} bytes")
        try:
            body = untrusted_json.decode(raw or b"{}")
        except ValueError:
            raise InputError("the body is not valid JSON") from None
        if not isinstance(body, dict):
            raise InputError("the body is not a JSON object")
        self.check_body(body)
        return body

    def check_body(self, body: Mapping[str, Any]) -> None:
        """Check a body.

        Raises:
            InputError: it has a field of another name, a field is missing or has a wrong value, or it has no form that
                the operation allows.
        """
        _checked(self._fields, body, self._operation.body, "the body has an unknown field")
        if self._operation.body_forms:
            try:
                self._forms.validate_python(body)
            except ValidationError:
                raise InputError(self._operation.forms_hint) from None


def _checked(
    type_: TypeAdapter[Any], values: Mapping[str, Any], texts: Mapping[str, str], unknown: str
) -> dict[str, Any]:
    for name in values:
        if name not in texts:
            hint = did_you_mean(name, texts) or "this operation has none"
            raise InputError(f"{unknown} {name[:64]!r}; {hint}")
    try:
        return dict(type_.validate_python(values))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
    name, message = str(first["loc"][0]), first["msg"].removeprefix("Value error, ")
    if first["type"] == "missing":
        message = "it is missing"
    elif first.get("ctx", {}).get("pattern") == NOT_EMPTY:
        message = "expected a text that is not empty"
    elif first["type"] == "string_pattern_mismatch":
        message = "the value has a wrong form"
    message = message.replace("Input should be", "expected")
    raise InputError(f"{name}: {message}. {texts[name]}")


def _error(status: int, message: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"error": " ".join(message.split())}, status, {**HEADERS, **(headers or {})})
