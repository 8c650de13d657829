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
from remediator.records import messages, runs
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


ABOUT_A_RUN: tuple[tuple[str, dict[str, Any]], ...] = (
    ("escalation", {"status": "escalated", "reason": "not_healed", "detail": {"text": "still down"}}),
    ("notice", {"about": "break glass", "text": "ann broke the glass"}),
    ("notice", {"about": "stuck", "text": "it has not moved for an hour"}),
    ("notice", {"guard": "breaker", "text": "opened", "playbook": "redis-disk-full", "target": "redis"}),
)
"""What is said of a run beside requests and what became of them; each as it is queued."""


QUIET = ("pagerduty", "update")
"""A rejection wakes nobody; only a run that ended well ends its incident there."""


async def _everything_said(here: Room, kind: str, folder: Path) -> dict[str, set[str]]:
    """The links of each kind of message, by one kind of channel: a request that stands, one that was decided and so
    gets an update, escalations and notices with and without a run."""
    said: dict[str, set[str]] = {}
    post = here.post({"chat": {"kind": kind, **settings(kind, folder)}}, "chat")

    async def send(name: str) -> None:
        async with respx.mock(assert_all_called=False) as router:
            router.route().mock(return_value=httpx.Response(200, json=ANSWERS.get(kind, {})))
            for _ in range(4):
                await here.deliver(post)
                here.clock.time += timedelta(seconds=10)  # so that no channel has to rest
            assert router.calls or (kind, name) == QUIET, f"{name} was not sent"
            links = {link for call in router.calls for link in _links(json.loads(call.request.content))}
        said[name] = said.get(name, set()) | links

    decided = await here.asks()
    await send("a request that will be decided")
    async with here.client() as client:
        await decides(client, here.link(decided), "reject", token=here.tokens["bob"])
    await send("update")
    for name, content in (*ABOUT_A_RUN, ("notice", {"about": "storm", "text": "200 alerts in a minute"})):

        def queue(tx: Tx, name: str = name, content: dict[str, Any] = content) -> None:
            run = None if content.get("about") == "storm" else runs.get(tx.connection, decided.run_id)
            messages.tell(tx, here.engine.ids, name, run, content, ("chat",))

        await here.engine.store.write(queue)
        await send(name)
    await here.asks()
    await send("approval")
    await post.aclose()
    return said


@pytest.mark.promise(6)
@pytest.mark.parametrize("kind", HTTP)
async def test_every_link_of_every_message_may_be_looked_at(here: Room, kind: str, tmp_path: Path) -> None:
    """Unfurled, scanned, prefetched, posted to: the request stands, the log has not grown, and the link still works."""
    said = await _everything_said(here, kind, tmp_path)
    links = {link for of_kind in said.values() for link in of_kind}
    decide = [link for link in said["approval"] if "/approve/" in link]
    assert len(decide) == 1
    about_runs = {"approval", "update", "escalation", "notice"} - ({QUIET[1]} if kind == QUIET[0] else set())
    assert all(any("/runs/" in link for link in said[name]) for name in about_runs)
    assert not any("/approve/" in link for name in ("escalation", "notice") for link in said[name])
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
