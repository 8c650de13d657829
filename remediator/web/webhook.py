"""``POST /api/v1/alerts``: Alertmanager's door.

Plain ASGI, without Starlette's request and response objects: this is the one path whose speed matters, and all that it
needs of a request are one header and the body.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

from starlette.types import Receive, Scope, Send

from remediator.errors import PayloadError, StoreError
from remediator.pipeline.receive import Credentials, Unauthorized, bounded, receive
from remediator.runtime.metrics import Metrics
from remediator.storage import Store

_JSON = (b"content-type", b"application/json")
_ACCEPTED = b'{"status":"accepted"}'
_ACCEPTED_START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [_JSON, (b"content-length", str(len(_ACCEPTED)).encode())],
}
_ACCEPTED_BODY = {"type": "http.response.body", "body": _ACCEPTED}


class _BrokenOff(Exception):
    """The sender closed the connection before the body was whole: nobody is left to answer."""


class Webhook:
    """The endpoint. Errors are one line of JSON; the status tells Alertmanager whether trying again can help.

    Args:
        store: where notifications become durable.
        credentials: what a sender has to present.
        limit: longest body in bytes.
        metrics: told of every answer.
    """

    def __init__(self, store: Store, credentials: Credentials, limit: int, metrics: Metrics) -> None:
        self._store = store
        self._credentials = credentials
        self._limit = limit
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive_: Receive, send: Send) -> None:
        authorization = b""
        for name, value in scope["headers"]:
            if name == b"authorization":
                authorization = value
        try:
            self._credentials.check(authorization)
            await receive(self._store, await bounded(_body(receive_), self._limit))
        except PayloadError as error:
            self._metrics.notifications.labels("rejected", str(error.status)).inc()
            await _refuse(send, error.status, str(error), isinstance(error, Unauthorized))
        except StoreError as error:
            self._metrics.notifications.labels("refused", "503").inc()
            await _refuse(send, 503, str(error))
        except _BrokenOff:
            self._metrics.notifications.labels("broken_off", "0").inc()
        else:
            self._metrics.accepted.inc()
            await send(_ACCEPTED_START)
            await send(_ACCEPTED_BODY)


async def _body(receive_: Receive) -> AsyncIterator[bytes]:
    more = True
    while more:
        message = await receive_()
        if message["type"] == "http.disconnect":
            raise _BrokenOff
        more = message.get("more_body", False)
        yield message.get("body", b"")


async def _refuse(send: Send, status: int, message: str, challenge: bool = False) -> None:
    body = json.dumps({"error": message}).encode()
    headers = [_JSON, (b"content-length", str(len(body)).encode())]
    if challenge:
        headers.append((b"www-authenticate", b"Bearer"))
    # what is left of a refused body is not read; the connection cannot be used again
    headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
