"""Buttons in chats: they respect the limits of each service, confirm an action, and open pages where needed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from remediator.core.approval import BUTTON, BUTTON_CODES, ApprovalLink, button_proof_is_valid, short_button
from remediator.core.tokens import Keyring
from remediator.extensions.notifiers import slack, teams, telegram
from remediator.extensions.notifiers._http import BUTTON_NAMES
from remediator.extensions.notifiers.base import Ask
from remediator.runtime.chat import Verb
from remediator.runtime.slack_events import reason_dialog
from tests.extensions.notifiers.test_notifiers import MESSAGE
from tests.support.guard_history import NOON

KEYRING = Keyring([bytes(range(32))])
LINK = ApprovalLink("approval-" + "x" * 17, "run-" + "x" * 17, "0" * 64, "channel:" + "c" * 90, NOON)
ASK = Ask("approval-1", NOON, "any approver", "https://remediator.example/approve/" + "t" * 600)


def message(values: dict[str, str]) -> Any:
    """Return a request with every button."""
    decisions = {verb: values[verb] for verb in ("approve", "reject", "snooze", "pause")}
    others = {verb: values[verb] for verb in ("acknowledge", "silence", "undo")}
    return replace(MESSAGE, ask=replace(ASK, buttons=decisions), buttons=others)


def _elements(blocks: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for block in blocks:
        if block["type"] == "actions":
            yield from block["elements"]


def test_slack_buttons_are_within_its_limits() -> None:
    """A message has at most 25 elements, texts of 75, values of 2000, titles of 100, dialog texts of 300, and URLs of
    3000 characters."""
    values = dict.fromkeys(BUTTON_CODES.values(), LINK.token(KEYRING, NOON, BUTTON))
    elements = list(_elements(slack._payload(message(values))["blocks"]))
    assert len(elements) <= 25 and len({item["action_id"] for item in elements}) == len(elements)
    for item in elements:
        assert len(item["text"]["text"]) <= 75 and len(item.get("value", "")) <= 2000
        assert len(item.get("url", "")) <= 3000 and len(item["action_id"]) <= 255
        confirm = item.get("confirm")
        if confirm is not None:
            assert len(confirm["title"]["text"]) <= 100 and len(confirm["text"]["text"]) <= 300
            assert len(confirm["confirm"]["text"]) <= 30 and len(confirm["deny"]["text"]) <= 30
    confirmed = {item["action_id"].removeprefix("remediator.") for item in elements if "confirm" in item}
    assert confirmed == {"approve", "pause", "undo", "silence"}


def test_slack_shows_the_deadline_in_the_readers_time() -> None:
    """The deadline is a date element with a fallback in UTC."""
    blocks = slack._payload(message(dict.fromkeys(BUTTON_CODES.values(), "v")))["blocks"]
    dates = [
        part
        for block in blocks
        if block["type"] == "rich_text"
        for element in block["elements"]
        for part in element["elements"]
        if part["type"] == "date"
    ]
    assert [(item["timestamp"], item["fallback"]) for item in dates] == [(int(NOON.timestamp()), "2026-03-04 12:00Z")]


@pytest.mark.parametrize("verb", [Verb.REJECT, Verb.PAUSE, Verb.UNDO])
def test_slack_dialogs_are_within_its_limits(verb: Verb) -> None:
    """Titles and buttons have at most 24 characters, and data at most 3000."""
    value = LINK.token(KEYRING, NOON, BUTTON)
    view = reason_dialog(verb, value + "https://hooks.slack.com/" + "x" * 300)
    assert all(len(view[name]["text"]) <= 24 for name in ("title", "submit", "close"))
    assert len(view["private_metadata"]) <= 3000


@pytest.mark.promise(6)
def test_telegram_buttons_are_within_its_limits() -> None:
    """Callback data has at most 64 bytes, and names the verb, the request and the plan."""
    values = {
        verb: short_button(KEYRING, verb, LINK.approval if verb in ("approve", "reject") else LINK.run, LINK.plan)
        for verb in BUTTON_CODES.values()
    }
    rows = telegram._payload(message(values))["reply_markup"]["inline_keyboard"]
    data = {key["text"]: key["callback_data"] for row in rows for key in row if "callback_data" in key}
    assert set(data) == set(BUTTON_NAMES.values())
    assert all(1 <= len(value.encode()) <= 64 for value in data.values())
    _, name, proof = values["approve"].split(":")
    assert button_proof_is_valid(KEYRING, proof, "approve", name, LINK.plan)
    for verb, other, plan in (
        ("reject", name, LINK.plan),
        ("approve", LINK.run, LINK.plan),
        ("approve", name, "1" * 64),
    ):
        assert not button_proof_is_valid(KEYRING, proof, verb, other, plan)
    assert not button_proof_is_valid(Keyring([bytes(32)]), proof, "approve", name, LINK.plan)


def test_teams_opens_pages() -> None:
    """A workflow of Teams does not prove who pressed a button, so every button opens a page."""
    card = teams.card(message(dict.fromkeys(BUTTON_CODES.values(), "v")))
    assert {item["type"] for item in card["actions"]} == {"Action.OpenUrl"}
    assert [item["title"] for item in card["actions"]] == ["Review and decide", "Show the run"]
