"""``GET /events``: a server-sent event for every change, so that open pages can update themselves.

An event says only *that* something changed. A page then fetches its own content, with the usual permission checks.
Without JavaScript, reload the page to update it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

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
        return StreamingResponse(_stream(site, open_streams), 200, HEADERS, "text/event-stream")

    return site.page(get)


async def _stream(site: Site, open_streams: set[object]) -> AsyncIterator[str]:
    stream = object()
    open_streams.add(stream)
    closing = site.service.closing
    last = -1
    try:
        yield "retry: 2000\n\n"
        end = asyncio.get_running_loop().time() + STREAM_LIFE
        while not closing.is_set() and asyncio.get_running_loop().time() < end:
            try:
                seq = (await site.service.context.store.read(audit.get_head)).seq
            except StoreError:
                return
            if seq != last:
                yield f"data: {seq}\n\n"
                last = seq
            with suppress(TimeoutError):
                async with asyncio.timeout(POLL_INTERVAL):
                    await closing.wait()
    finally:
        open_streams.discard(stream)
