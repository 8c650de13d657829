"""Robots that look at every link of every message of every kind of channel decide nothing and use nothing up."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import respx

from remediator import registry
from remediator.records import messages
from remediator.stores import Tx
from tests.notifiers.test_notifiers import ANSWERS, HTTP, settings
from tests.web.room import BASE, Room, decides

ROBOTS: tuple[tuple[str, dict[str, str]], ...] = (
    ("GET", {"User-Agent": "Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)"}),
    ("HEAD", {"User-Agent": "Mozilla/5.0 (compatible; mail scanner)"}),
    ("GET", {"Sec-Purpose": "prefetch;prerender", "Purpose": "prefetch"}),
    ("OPTIONS", {"Origin": "https://elsewhere.example"}),
    ("POST", {"Sec-Fetch-Site": "none", "Content-Type": "application/x-www-form-urlencoded"}),
)


def _links(value: Any) -> set[str]:
    """Every address of ours in what was posted, in whatever field."""
    if isinstance(value, str):
        return set(re.findall(re.escape(BASE) + r"/[\w/.~-]+", value))
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return {link for part in parts for link in _links(part)}


async def _everything_said(here: Room, kind: str, folder: Path) -> set[str]:
    """Links of a request and of a notice by one kind of channel."""
    await here.asks()

    def more(tx: Tx) -> None:
        told = {"about": "x", "text": "hello", "reason": "x"}
        messages.tell(tx, here.engine.ids, "notice", None, told, ("chat",))

    post = here.post({"chat": {"kind": kind, **settings(kind, folder)}}, "chat")
    await here.engine.store.write(more)
    async with respx.mock(assert_all_called=False) as router:
        router.route().mock(return_value=httpx.Response(200, json=ANSWERS.get(kind, {})))
        for _ in range(4):
            await here.deliver(post)
            here.clock.time += timedelta(seconds=10)  # so that no channel has to rest
        links: set[str] = set()
        for call in router.calls:
            links |= _links(json.loads(call.request.content))
    await post.aclose()
    return links


@pytest.mark.promise(6)
@pytest.mark.parametrize("kind", HTTP)
async def test_every_link_of_every_message_may_be_looked_at(here: Room, kind: str, tmp_path: Path) -> None:
    """Unfurled, scanned, prefetched, posted to: the request stands, the log has not grown, and the link still works."""
    links = await _everything_said(here, kind, tmp_path)
    decide = [link for link in links if "/approve/" in link]
    assert decide and any("/runs/" in link for link in links)
    before = await here.head()
    for link in links:
        for method, headers in ROBOTS:
            async with here.client() as robot:
                answer = await robot.request(
                    method, link, headers=headers, content=b"verb=approve" if method == "POST" else None
                )
                assert answer.status_code < 500, (method, link)
    assert await here.head() == before
    async with here.client() as client:
        done = await decides(client, decide[0].removeprefix(BASE), "approve", token=here.tokens["ann"])
    assert done.status_code == 303


def test_no_kind_is_left_out() -> None:
    """Each notifier speaks HTTP and is crawled above, or is mail, the log, or Apprise's own."""
    assert {notifier.kind for notifier in registry.NOTIFIERS} == {*HTTP, "email", "log", "apprise"}
