"""Robots that open every link in every message of every kind of channel change nothing."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, select

from remediator.storage.schema import metadata
from tests.extensions.notifiers.test_notifiers import KINDS
from tests.support.sample_messages import DECISION_SENDERS, SENDERS, everything_said, links
from tests.support.web_service import BASE, WebService, submit_decision

pytestmark = pytest.mark.filterwarnings("ignore:.*imghdr:DeprecationWarning")  # Apprise imports it

ROBOTS: tuple[tuple[str, dict[str, str]], ...] = (
    ("GET", {"User-Agent": "Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)"}),
    ("HEAD", {"User-Agent": "Mozilla/5.0 (compatible; mail scanner)"}),
    ("GET", {"Sec-Purpose": "prefetch;prerender", "Purpose": "prefetch", "X-Moz": "prefetch"}),
    ("OPTIONS", {"Origin": "https://elsewhere.example"}),
    ("POST", {"Sec-Fetch-Site": "none", "Content-Type": "application/x-www-form-urlencoded"}),
)
USUAL = ("email", "slack", "webhook")
"""The kinds of channels that are tested with every change. The others are in the long tests."""


def contents(connection: Connection) -> dict[str, list[Any]]:
    """Return every row of every table."""
    return {table.name: sorted(map(repr, connection.execute(select(table)))) for table in metadata.sorted_tables}


@pytest.mark.promise(6)
@pytest.mark.parametrize(
    "kind", [kind if kind in USUAL else pytest.param(kind, marks=pytest.mark.long) for kind in sorted(KINDS)]
)
async def test_robots_change_nothing(web: WebService, kind: str, tmp_path: Path) -> None:
    """Robots change no row, and the link of the open request still works.

    They unfurl, scan, prefetch and post to the links in requests, outcomes, escalations and notices.
    """
    waiting, said = await everything_said(web, kind, tmp_path)
    found = links(said)
    decide = sorted(link for link in found if "/approve/" in link)
    if kind == "log":
        assert not decide, "what lets people decide does not stand in a log"
        return
    assert len(decide) >= 6 and sum("/runs/" in link for link in found) >= 6
    before = await web.context.store.read(contents)
    for link in sorted(found):
        for method, headers in ROBOTS:
            async with web.client() as robot:
                body = b"verb=approve" if method == "POST" else None
                answer = await robot.request(method, link, headers=headers, content=body)
                assert answer.status_code < 500, (method, link)
    assert await web.context.store.read(contents) == before
    heard = []
    for link in decide:
        async with web.client() as client:
            heard.append(await submit_decision(client, link.removeprefix(BASE), "approve", token=web.tokens["ann"]))
    assert (await web.state(waiting)).status == "approved"
    assert [answer.status_code for answer in heard].count(303) == 1, "the others are over"


def test_every_kind_of_message_is_covered() -> None:
    """The tests above cover each module that sends messages."""
    home = Path(__file__).parents[2] / "remediator"
    senders = {
        str(path.relative_to(home).with_suffix(""))
        for path in home.rglob("*.py")
        if re.search(r"\boutbox\.(enqueue|enqueue_for_incident)\(", path.read_text())
    }
    assert senders == {*SENDERS, *DECISION_SENDERS}
