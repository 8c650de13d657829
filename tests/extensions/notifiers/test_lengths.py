"""Long messages: every channel accepts the longest message, and it still contains what an approver needs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import respx

from remediator.extensions.notifiers._http import TRUNCATED, fit, utf16_length
from remediator.extensions.notifiers.base import Ask, Message, Section, Tone
from tests.extensions.notifiers.test_notifiers import ANSWERS, HTTP, KINDS, LINK, settings
from tests.support.guard_history import NOON

UNTIL = "Expires at 2026-03-04 12:15:00 UTC (in 15m)"


def huge(letter: str) -> Message:
    """Return the longest possible message: every line has its maximum length."""
    line = (letter * 400)[:400]
    sections = (
        Section("Alerts", (line,) * 11),
        Section("Planned calls", ("1. restart redis",) + (line * 5,) * 12, True),
        Section("Risks", (line,) * 24),
        Section("Likely cause", (line,) * 3),
        Section("Evidence", (line,) * 6),
        Section("Why approval is needed", (line,)),
        Section("Approvers and deadline", (UNTIL, "Who may approve: any approver")),
    )
    buttons = dict.fromkeys(("approve", "reject", "snooze", "pause"), "token")
    ask = Ask("approval-1", NOON + timedelta(minutes=15), "any approver", LINK + "t" * 400, buttons)
    follow = "https://remediator.example/runs/run-1"
    title = (f"Approve? {letter * 200}")[:200]
    chart = b"x" * 14_000
    return Message("message-1", "run-1", "approval", title, Tone.ASK, sections, ask, follow, chart=chart)


def _slack(body: Any) -> None:
    assert len(body["blocks"]) <= 50
    texts = [len("".join(_texts(block))) for block in body["blocks"]]
    assert max(texts) <= 3000 and sum(texts) <= 12_000


def _texts(item: Any) -> list[str]:
    if isinstance(item, Mapping):
        own = [item["text"]] if isinstance(item.get("text"), str) else []
        return own + [text for value in item.values() for text in _texts(value)]
    return [text for value in item for text in _texts(value)] if isinstance(item, list) else []


def _discord(body: Any) -> None:
    [embed] = body["embeds"]
    fields = embed["fields"]
    assert len(embed["title"]) <= 256 and len(fields) <= 25 and len(embed["description"]) <= 4096
    assert all(len(item["name"]) <= 256 and 0 < utf16_length(item["value"]) <= 1024 for item in fields)
    assert all(item["value"].endswith("\n```") for item in fields), "every code block is closed"
    total = utf16_length(embed["title"] + embed["description"]) + sum(
        utf16_length(item["name"] + item["value"]) for item in fields
    )
    assert total <= 6000


def _telegram(body: Any) -> None:
    plain = body["text"]
    for tag in ("<b>", "</b>", "<pre>", "</pre>"):
        plain = plain.replace(tag, "")
    for entity, letter in (("&lt;", "<"), ("&gt;", ">"), ("&amp;", "&"), ("&quot;", '"'), ("&#x27;", "'")):
        plain = plain.replace(entity, letter)
    assert utf16_length(plain) <= 4096 and body["text"].count("<pre>") == body["text"].count("</pre>")


def _teams(body: Any) -> None:
    assert len(json.dumps(body, ensure_ascii=False).encode()) <= 28 * 1024


def _google_chat(body: Any) -> None:
    assert len(json.dumps(body, ensure_ascii=False).encode()) <= 32_000


def _mattermost(body: Any) -> None:
    assert len(json.dumps(body["attachments"], ensure_ascii=False)) <= 8000 + 600
    assert body["attachments"][0]["text"].count("```") % 2 == 0, "every code block is closed"


def _pagerduty(body: Any) -> None:
    assert len(body["payload"]["summary"]) <= 1024 and len(json.dumps(body)) <= 512 * 1024


def _opsgenie(body: Any) -> None:
    assert len(body["message"]) <= 130 and len(body["description"]) <= 15_000


LIMITS = {
    "slack": _slack,
    "discord": _discord,
    "telegram": _telegram,
    "teams": _teams,
    "google_chat": _google_chat,
    "mattermost": _mattermost,
    "pagerduty": _pagerduty,
    "opsgenie": _opsgenie,
    "webhook": lambda body: None,
}


@pytest.mark.parametrize("kind", HTTP)
@pytest.mark.parametrize("letter", ["x", "日", "😀", "<!channel>&@here`"])
async def test_longest_message_fits_and_contains_the_essentials(kind: str, letter: str, tmp_path: Path) -> None:
    """The message respects the limits of the service, and contains the planned calls, the deadline and the link."""
    message = huge(letter)
    notifier = KINDS[kind](settings(kind, tmp_path))
    async with respx.mock(assert_all_called=False) as router:
        router.route().mock(return_value=httpx.Response(200, json=ANSWERS.get(kind, {})))
        await notifier.send(message)
        [call] = router.calls
    await notifier.aclose()
    body = json.loads(call.request.content)
    LIMITS[kind](body)
    text = json.dumps(body, ensure_ascii=False)
    assert message.ask is not None
    for needed in ("1. restart redis", UNTIL, message.ask.link, message.link):
        assert needed in text, needed


async def test_slack_has_no_approve_button_if_the_plan_was_cut(tmp_path: Path) -> None:
    """If the plan does not fit, the approver must open the page, which shows all of it. The other buttons stay."""
    message = huge("x")
    for sections, there in (
        (message.sections, False),
        ((Section("Planned calls", ("restart redis",), True),), True),
    ):
        notifier = KINDS["slack"](settings("slack", tmp_path))
        async with respx.mock() as router:
            router.route().mock(return_value=httpx.Response(200, json=ANSWERS["slack"]))
            await notifier.send(replace(message, sections=sections))
            body = json.loads(router.calls[0].request.content)
        await notifier.aclose()
        buttons = {item["action_id"] for item in body["blocks"][-1]["elements"]}
        assert ("remediator.approve" in buttons) is there
        assert {"remediator.reject", "remediator.snooze", "remediator.pause", "remediator.open"} <= buttons


@pytest.mark.parametrize("kind", HTTP)
async def test_messages_without_public_url_have_no_links(kind: str, tmp_path: Path) -> None:
    """Services reject a message with an empty link, so the message has no link."""
    message = huge("x")
    assert message.ask is not None
    bare = replace(message, ask=replace(message.ask, link=""), link="")
    notifier = KINDS[kind](settings(kind, tmp_path))
    async with respx.mock() as router:
        router.route().mock(return_value=httpx.Response(200, json=ANSWERS.get(kind, {})))
        await notifier.send(bare)
        body = router.calls[0].request.content.decode()
    await notifier.aclose()
    assert "Review and decide" not in body and "Show the run" not in body


def test_long_sections_are_cut_with_a_note() -> None:
    """Only a section that is too long is cut, and then it ends with a note. Sections with exact text get more space."""
    sections = [
        Section("Alerts", ("x" * 5000,)),
        Section("Planned calls", ("y" * 5000,), True),
        Section("Evidence", ("short",)),
    ]
    fires, done, evidence = fit(sections, 2000)
    assert evidence == sections[2]
    assert fires.lines[-1] == done.lines[-1] == TRUNCATED
    assert len(done.lines[0]) > 2 * len(fires.lines[0])
    assert fit(sections, 100_000) == sections
    assert sum(len(line) for section in fit(sections, 2000) for line in section.lines) <= 2000
