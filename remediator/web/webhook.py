"""``POST /api/v1/alerts``: Alertmanager's door."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from remediator.errors import PayloadError, StoreError
from remediator.metrics import Metrics
from remediator.receive import Credentials, bounded, receive
from remediator.stores import Store

_ACCEPTED = b'{"status":"accepted"}'


def endpoint(
    store: Store, credentials: Credentials, limit: int, metrics: Metrics
) -> Callable[[Request], Awaitable[Response]]:
    """The handler. Errors are one line of JSON; the status tells Alertmanager whether trying again can help."""

    async def post(request: Request) -> Response:
        try:
            credentials.check(request.headers)
            body = await bounded(request.stream(), request.headers.get("content-length"), limit)
            await receive(store, body)
        except PayloadError as error:
            metrics.notifications.labels("rejected", str(error.status)).inc()
            headers = {"WWW-Authenticate": "Bearer"} if error.status == 401 else None
            return JSONResponse({"error": str(error)}, error.status, headers)
        except StoreError as error:
            metrics.notifications.labels("refused", "503").inc()
            return JSONResponse({"error": str(error)}, 503)
        except ClientDisconnect:
            metrics.notifications.labels("broken_off", "0").inc()
            return JSONResponse({"error": "the connection was closed before the body was whole"}, 400)
        metrics.accepted.inc()
        return Response(_ACCEPTED, 200, media_type="application/json")

    return post
