"""``GET /events``: a server-sent event whenever something new is on record, so that pages can renew themselves.

The stream says only *that* there is news: pages fetch what they show by themselves, with their own checks. Without
JavaScript a page is as true as its last reload.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse

from remediator.errors import StoreError
from remediator.storage.repositories import audit
from remediator.web.authentication import RequestIdentity
from remediator.web.site import HEADERS, Handler, Site

LOOK = 0.5
LIFE = 60.0
"""Seconds after which a stream ends; browsers come back by themselves."""
MOST = 64


def events(site: Site) -> Handler:
    """The stream."""
    open_streams: set[object] = set()

    async def get(request: Request, visitor: RequestIdentity) -> Response:
        if len(open_streams) >= MOST:
            return Response("too many streams\n", 503, {"Retry-After": "30"})
        return StreamingResponse(_stream(site, open_streams), 200, HEADERS, "text/event-stream")

    return site.page(get)


async def _stream(site: Site, open_streams: set[object]) -> AsyncIterator[str]:
    mark = object()
    open_streams.add(mark)
    closing = site.service.closing
    last = -1
    try:
        yield "retry: 2000\n\n"
        end = asyncio.get_running_loop().time() + LIFE
        while not closing.is_set() and asyncio.get_running_loop().time() < end:
            try:
                seq = (await site.service.context.store.read(audit.head)).seq
            except StoreError:
                return
            if seq != last:
                yield f"data: {seq}\n\n"
                last = seq
            await _wait(closing)
    finally:
        open_streams.discard(mark)


async def _wait(closing: asyncio.Event) -> None:
    try:
        async with asyncio.timeout(LOOK):
            await closing.wait()
    except TimeoutError:
        return


def favicon(site: Site) -> Handler:
    """``/favicon.ico``: the one in the style folder."""

    async def get(request: Request) -> Response:
        return RedirectResponse("/static/icon.svg", 301)

    return get
