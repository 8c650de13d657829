"""``GET /events``: a server-sent event for every change, so that open pages can update themselves.

An event says only *that* something changed. A page then fetches its own content, with the usual permission checks.
Without JavaScript, reload the page to update it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from remediator.errors import StoreError
from remediator.storage.repositories import audit
from remediator.web.authentication import RequestIdentity
from remediator.web.site import HEADERS, Handler, Site

POLL_INTERVAL = 0.5
"""Seconds between two looks at the audit log's head."""
STREAM_LIFE = 60.0
"""Seconds after which a stream ends; the browser then connects again."""
MAX_STREAMS = 64


def events(site: Site) -> Handler:
    """Return the handler of the event stream."""
    open_streams: set[object] = set()

    async def get(request: Request, identity: RequestIdentity) -> Response:
        if len(open_streams) >= MAX_STREAMS:
            return Response(f"{MAX_STREAMS} event streams are open; try again later\n", 503, {"Retry-After": "30"})
        # counted before the answer begins, so that requests at the same time cannot all pass the check
        stream = object()
        open_streams.add(stream)
        return _CountedStream(_stream(site), lambda: open_streams.discard(stream))

    return site.page(get)


class _CountedStream(StreamingResponse):
    """A stream that says when it is over, also if the client left before its first byte."""

    def __init__(self, content: AsyncIterator[str], on_end: Callable[[], None]) -> None:
        super().__init__(content, 200, HEADERS, "text/event-stream")
        self._on_end = on_end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._on_end()


async def _stream(site: Site) -> AsyncIterator[str]:
    closing = site.service.closing
    last = -1
    yield "retry: 2000\n\n"
    end = asyncio.get_running_loop().time() + STREAM_LIFE
    while not closing.is_set() and asyncio.get_running_loop().time() < end:
        try:
            seq = (await site.service.context.store.view(audit.get_head)).seq
        except StoreError:
            return
        if seq != last:
            yield f"data: {seq}\n\n"
            last = seq
        with suppress(TimeoutError):
            async with asyncio.timeout(POLL_INTERVAL):
                await closing.wait()
