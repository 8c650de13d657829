"""``GET /events``: a server-sent event for every change, so that open pages can update themselves.

An event reports only *that* a change happened. A page then fetches its own content, with the usual permission checks.
Without JavaScript, reload the page to update it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import suppress

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from remediator.core.approval import Permission
from remediator.core.listen import network_of
from remediator.errors import StoreError
from remediator.storage.repositories import audit
from remediator.web.authentication import RequestIdentity, address_of, identify
from remediator.web.site import HEADERS, Site

POLL_INTERVAL = 0.5
"""Seconds between two checks of the audit log's head."""
STREAM_LIFE = 60.0
"""Seconds after which a stream ends; the browser then connects again."""
MAX_STREAMS = 64
MAX_STREAMS_OF_ONE = 8
"""Streams of one person, or of one address without sign-in, so that one person cannot use all places.

A browser opens at most six connections to a server.
"""


async def events(open_streams: Counter[str], site: Site, request: Request, identity: RequestIdentity) -> Response:
    """Answer ``GET /events`` with the stream."""
    person, address = identity.person, network_of(address_of(site.service, request))
    whose = f"address {address}" if person is None else f"person {person.id}"
    if open_streams.total() >= MAX_STREAMS or open_streams[whose] >= MAX_STREAMS_OF_ONE:
        return Response("too many event streams are open; try again later\n", 503, {"Retry-After": "30"})
    # counted before the answer begins, so that requests at the same time cannot all pass the check
    open_streams[whose] += 1

    def ended() -> None:
        open_streams[whose] -= 1
        if not open_streams[whose]:
            del open_streams[whose]

    return _CountedStream(_stream(site, request), ended)


class _CountedStream(StreamingResponse):
    """A stream that reports its end, also if the client left before its first byte."""

    def __init__(self, content: AsyncIterator[str], on_end: Callable[[], None]) -> None:
        super().__init__(content, 200, HEADERS, "text/event-stream")
        self._on_end = on_end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._on_end()


async def _stream(site: Site, request: Request) -> AsyncIterator[str]:
    """Yield the events of one stream, until the caller may not read any more.

    A sign-out and the end of a session are entries of the audit log, and a removed person or token makes new rules. So
    it is sufficient to check the caller again after one of these changes.
    """
    closing = site.service.closing
    last, rules = -1, site.service.access.rules
    yield "retry: 2000\n\n"
    end = asyncio.get_running_loop().time() + STREAM_LIFE
    while not closing.is_set() and asyncio.get_running_loop().time() < end:
        try:
            seq = (await site.service.context.store.view(audit.get_head)).seq
            if seq != last or rules is not site.service.access.rules:
                rules = site.service.access.rules
                if not (await identify(site.service, request)).may(Permission.READ):
                    return
        except StoreError:
            return
        if seq != last:
            yield f"data: {seq}\n\n"
            last = seq
        with suppress(TimeoutError):
            async with asyncio.timeout(POLL_INTERVAL):
                await closing.wait()
