"""The event stream: the number of streams of a caller is limited, and a stream ends with the right to read."""

from __future__ import annotations

import asyncio
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request

from remediator.core.identity import hash_token, make_token
from remediator.storage.repositories import sessions
from remediator.web import events
from remediator.web.site import Site
from tests.security.test_removed_authority import change_people, reload_files, sign_in
from tests.support.web_service import WebService, web_service

pytestmark = pytest.mark.promise(6)
WITHIN = 30.0
"""Timeout in seconds, shorter than a stream lasts."""


def request_of(headers: dict[str, str], address: str = "192.0.2.7") -> Request:
    """Return a request for the stream."""
    raw = [(name.lower().encode(), value.encode()) for name, value in {"Host": "remediator.test", **headers}.items()]
    scope = {"type": "http", "method": "GET", "path": "/events", "query_string": b"", "headers": raw}
    return Request({**scope, "client": (address, 1234)})


async def ends(web: WebService, headers: dict[str, str], removal: Any) -> bool:
    """Open a stream, remove the right to read, and return whether the stream ends without another event."""
    stream = events._stream(Site(web.service), request_of(headers))
    assert "retry" in await anext(stream) and "data" in await anext(stream)
    await removal()
    async with asyncio.timeout(WITHIN):
        return [item async for item in stream] == []


@pytest.mark.parametrize("change", [None, {"tokens": [hash_token(make_token())]}], ids=["removed", "token replaced"])
async def test_a_stream_ends_when_its_person_or_token_is_removed(tmp_path: Path, change: Any) -> None:
    """An open stream ends too, not only the next request is refused."""
    async with web_service(tmp_path, access={"anonymous_role": "none"}) as web:

        async def remove() -> None:
            change_people(tmp_path, ann=change)
            await reload_files(web)

        assert await ends(web, web.bearer("ann"), remove)


@pytest.mark.parametrize("how", ["signed out", "ended by an operator"])
async def test_a_stream_ends_with_its_session(tmp_path: Path, how: str) -> None:
    """A stream ends with a sign-out, and when an operator ends all sessions of the person."""
    async with web_service(tmp_path, access={"anonymous_role": "none"}) as web, web.client() as browser:
        await sign_in(browser, web.tokens["ann"])
        cookie = browser.cookies["remediator_session"]

        async def remove() -> None:
            if how == "signed out":
                await web.context.store.write(lambda tx: sessions.end(tx, cookie, "ann"))
            else:
                await web.context.store.write(lambda tx: sessions.end_all(tx, ["ann"], "bob", "a leaked token"))

        assert await ends(web, {"Cookie": f"remediator_session={cookie}"}, remove)


async def test_one_caller_cannot_use_all_streams(web: WebService) -> None:
    """The streams of one address or person are limited. When a stream ends, another can be opened."""
    handler = Site(web.service).page(partial(events.events, Counter()))
    answers = [await handler(request_of({})) for _ in range(events.MAX_STREAMS_OF_ONE + 1)]
    assert [answer.status_code for answer in answers] == [200] * events.MAX_STREAMS_OF_ONE + [503]
    network = [await handler(request_of({}, f"2001:db8::{number}")) for number in range(events.MAX_STREAMS_OF_ONE + 1)]
    assert network[-1].status_code == 503  # one host can have all addresses of a /64
    assert (await handler(request_of({}, "192.0.2.8"))).status_code == 200
    assert (await handler(request_of(web.bearer("ann")))).status_code == 200

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        pass

    await answers[0](request_of({}).scope, receive, send)
    assert (await handler(request_of({}))).status_code == 200
