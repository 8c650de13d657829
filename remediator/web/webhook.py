"""``POST /api/v1/alerts``: the webhook endpoint for Alertmanager; ``/api/v1/alerts/NAME`` for a further source.

This is plain ASGI, without Starlette's request and response objects. Speed matters only on this path, and it needs only
one header and the body of a request.
"""

from __future__ import annotations

import json
from functools import partial

from starlette.types import Receive, Scope, Send

from remediator.core.clock import Clock
from remediator.core.sizes import MEBIBYTE
from remediator.errors import PayloadError, StoreError, StoreUnavailable
from remediator.extensions.sources.base import Source
from remediator.pipeline.receive import Unauthorized, receive
from remediator.runtime.access import AccessControl
from remediator.runtime.health import Health
from remediator.runtime.metrics import Metrics
from remediator.storage import Store
from remediator.web.refusals import Refusals

MAX_DRAIN = 128 * MEBIBYTE
"""Bytes of a refused body that are read and discarded. A sender that is disconnected while it sends would see a broken
connection instead of the answer, and try again forever."""
_JSON = (b"content-type", b"application/json")
_NOSNIFF = (b"x-content-type-options", b"nosniff")
_ACCEPTED = b'{"status":"accepted"}'
_ACCEPTED_START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [_JSON, _NOSNIFF, (b"content-length", str(len(_ACCEPTED)).encode())],
}
_ACCEPTED_BODY = {"type": "http.response.body", "body": _ACCEPTED}


class _Disconnected(Exception):
    """The sender closed the connection before the body was complete. No answer is possible."""


class Webhook:
    """The endpoint of one source. ``2xx``: the notification is committed and fsynced. ``503``: a temporary failure;
    Alertmanager retries. ``4xx``: the notification is invalid, and Alertmanager drops it. Errors are one line of JSON.

    Args:
        store: where notifications are committed.
        access: has the current credentials, which change while the service runs.
        limit: maximum length of the body, in bytes.
        health: knows whether notifications are processed.
        metrics: counts every answer.
        refusals: records the refused notifications.
        source: parses the notifications of this endpoint.
        clock: has the time for signatures.
    """

    def __init__(
        self,
        store: Store,
        access: AccessControl,
        limit: int,
        health: Health,
        metrics: Metrics,
        refusals: Refusals,
        source: Source,
        clock: Clock,
    ) -> None:
        self._store = store
        self._access = access
        self._limit = limit
        self._health = health
        self._refusals = refusals
        self._source = source
        self._clock = clock
        self._answers = partial(metrics.notifications.labels, source.name)
        self._accepted = self._answers("accepted", "200")
        # create the series with 0 at the start, so that Prometheus sees the first increase
        self._answers("refused", "503")

    async def __call__(self, scope: Scope, receive_: Receive, send: Send) -> None:
        authorization = b""
        for name, value in scope["headers"]:
            if name == b"authorization":
                authorization = value
        # Credentials first: an unauthenticated sender must not make the service read a body. Only a signature needs the
        # body, up to the limit. The answer comes last: only a committed notification is acknowledged.
        credentials = self._access.rules.credentials[self._source.name]
        try:
            credentials.check(authorization)
            body = await read_body(receive_, self._limit)
            if credentials.signature is not None:
                credentials.check_signature(scope["headers"], body, self._clock.now())
            if problem := self._health.intake_problem():  # acknowledged and never processed would be a loss
                raise StoreUnavailable(problem)
            await receive(self._store, body, self._source)
        except PayloadError as error:
            self._answers("rejected", str(error.status)).inc()
            challenge = credentials.challenge if isinstance(error, Unauthorized) else b""
            await _refuse(send, error.status, str(error), challenge)
            if error.status < 500:  # the sender tries again after a 5xx
                client = scope.get("client")  # the address of the sender, or of a proxy in front of this service
                await self._refusals.record(str(client[0]) if client else "unknown", error)
        except StoreError as error:
            self._answers("refused", "503").inc()
            await _refuse(send, 503, str(error))
        except _Disconnected:
            self._answers("broken_off", "0").inc()
        else:
            self._accepted.inc()
            await send(_ACCEPTED_START)
            await send(_ACCEPTED_BODY)


async def read_body(receive_: Receive, limit: int) -> bytes:
    """Return the whole body, if it has at most ``limit`` bytes. A longer body is read and discarded. The connection
    limits the time (:mod:`remediator.web.connections`).

    Raises:
        PayloadError: the body is longer, with status 413. Alertmanager drops it; its ``max_alerts`` prevents that.
    """
    chunks: list[bytes] = []
    size = 0
    more = True
    while more and size <= MAX_DRAIN:
        message = await receive_()
        if message["type"] == "http.disconnect":
            raise _Disconnected
        more = message.get("more_body", False)
        chunk = message.get("body", b"")
        size += len(chunk)
        if size <= limit:
            chunks.append(chunk)
        else:
            chunks.clear()
    if size > limit:
        raise PayloadError(
            f"the body is longer than {limit} bytes: set max_alerts for this receiver in alertmanager.yml, or max_body "
            "here",
            413,
        )
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


async def _refuse(send: Send, status: int, message: str, challenge: bytes = b"") -> None:
    body = json.dumps({"error": message}).encode()
    headers = [_JSON, _NOSNIFF, (b"content-length", str(len(body)).encode())]
    if challenge:
        headers.append((b"www-authenticate", challenge))
    # the rest of a rejected body is not read, so the connection cannot be used again
    headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
