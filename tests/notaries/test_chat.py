"""Checkpoints in a chat: what people copy out of it verifies the log."""

from __future__ import annotations

import json
from collections.abc import Iterator
from email import message_from_bytes
from email.policy import default
from html import unescape
from pathlib import Path
from typing import Any

import httpx
import pytest
import respx
from aiosmtpd.controller import Controller

from remediator.audit import BadNote, checkpoint
from remediator.notaries import NotaryError
from remediator.notaries.chat import ChatNotary
from tests.audit.logs import check
from tests.notaries.suite import NOTES, OTHERS, ROWS
from tests.notifiers.test_notifiers import ANSWERS, HTTP, KINDS, settings
from tests.servers import free_port

pytestmark = pytest.mark.promise(9)


def _texts(value: Any) -> Iterator[str]:
    """Everything that is written somewhere in a posted body, as a person could copy it."""
    if isinstance(value, str):
        yield value
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for part in parts:
        yield from _texts(part)


@pytest.mark.parametrize("kind", HTTP)
async def test_what_is_copied_out_of_a_chat_verifies_the_log(kind: str, tmp_path: Path) -> None:
    """Between whatever else stands there; and a log that was rewritten since does not agree with it."""
    channel = KINDS[kind](settings(kind, tmp_path))
    async with respx.mock(assert_all_called=False) as router:
        router.route().mock(return_value=httpx.Response(200, json=ANSWERS.get(kind, {})))
        for size in (3, 12):
            assert (await ChatNotary(channel).publish(NOTES[size])).startswith(kind)
        copied = [text for call in router.calls for text in _texts(json.loads(call.request.content))]
    copied = [unescape(text) for text in copied]  # some channels are given HTML; people copy what it shows
    await channel.aclose()
    found = set(checkpoint.find("good morning\n\n" + "\n".join(f"   {text}" for text in copied) + "\nhow are you?\n"))
    assert found == {NOTES[3], NOTES[12]}
    assert check(ROWS, *sorted(found, key=len)).checkpoints == (3, 12)
    assert check(ROWS[:7], *found).findings, "cut off"
    assert check(ROWS, OTHERS[12]).findings, "another history"


async def test_a_mail_can_be_given_as_it_is(tmp_path: Path) -> None:
    """Its text part, however the mail was encoded on its way."""
    kept: list[bytes] = []

    class Box:
        async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
            kept.append(envelope.content)
            return "250 OK"

    port = free_port()
    controller = Controller(Box(), hostname="127.0.0.1", port=port)
    controller.start()
    try:
        channel = KINDS["email"]({**settings("email", tmp_path), "port": port, "tls": "none"})
        await ChatNotary(channel).publish(NOTES[12])
    finally:
        controller.stop()
    body = message_from_bytes(kept[0], policy=default).get_body(("plain",))  # type: ignore[attr-defined]
    assert list(checkpoint.find(body.get_content())) == [NOTES[12]]


async def test_a_chat_that_does_not_take_it_is_an_error(tmp_path: Path) -> None:
    """It is tried again with the next checkpoint, and stands in the log; nothing that is no checkpoint is told."""
    channel = KINDS["slack"](settings("slack", tmp_path))
    async with respx.mock as router:
        router.route().mock(return_value=httpx.Response(200, json={"ok": False, "error": "channel_not_found"}))
        with pytest.raises(NotaryError, match="channel_not_found"):
            await ChatNotary(channel).publish(NOTES[3])
    with pytest.raises(BadNote):
        await ChatNotary(channel).publish("hello")
    with pytest.raises(NotaryError, match="copy its messages"):
        await ChatNotary(channel).fetch()
    await channel.aclose()
