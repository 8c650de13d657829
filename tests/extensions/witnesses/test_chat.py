"""Checkpoints in a chat, and back from what people copy or export there."""

from __future__ import annotations

import asyncio
import json
from email import message_from_bytes
from email.policy import default
from pathlib import Path
from typing import Any

import httpx
import pytest
import respx
from aiosmtpd.controller import Controller
from click.testing import CliRunner

from remediator.audit import BadNote, checkpoint
from remediator.cli.audit import command
from remediator.extensions.notifiers.base import Delivery, Message
from remediator.extensions.notifiers.log import LogNotifier
from remediator.extensions.notifiers.slack import SlackNotifier
from remediator.extensions.witnesses.base import WitnessError
from remediator.extensions.witnesses.chat import ChatWitness
from tests.extensions.notifiers.test_notifiers import ANSWERS, HTTP, KINDS, settings
from tests.support.sample_logs import SIGNER, check, make
from tests.support.servers import free_port
from tests.support.witness_suite import NOTES, ROWS

pytestmark = pytest.mark.promise(9)

_API = "https://slack.example"
# in an Adaptive Card each line is a block of its own, and Google's paragraphs are HTML: people copy what these show
_COPIED_ONLY = {"teams", "google_chat"}


@pytest.fixture
def slack(tmp_path: Path) -> SlackNotifier:
    """A channel as the settings file makes it."""
    (tmp_path / "token").write_text("xoxb-test")
    return SlackNotifier({"token_file": str(tmp_path / "token"), "channel": "C1", "api": _API})


async def _posted(slack: SlackNotifier, *notes: str) -> list[Any]:
    """What Slack is sent for these checkpoints."""
    notary = ChatWitness(slack)
    async with respx.mock(base_url=_API) as router:
        router.post("/api/chat.postMessage").mock(return_value=httpx.Response(200, json=ANSWERS["slack"]))
        assert [await notary.publish(each) for each in notes] == ["slack channel C1, ts 1.2"] * len(notes)
        return [json.loads(call.request.content) for call in router.calls]


async def test_the_whole_note_stands_in_a_code_block(slack: SlackNotifier) -> None:
    """Verbatim, with a title that says what it is for."""
    [body] = await _posted(slack, NOTES[3])

    block = body["blocks"][1]["elements"][1]
    assert block["type"] == "rich_text_preformatted"
    assert block["elements"] == [{"type": "text", "text": NOTES[3].removesuffix("\n")}]
    assert "3 entries" in body["text"]
    await slack.aclose()


async def test_an_export_of_the_channel_finds_a_rewritten_chain(slack: SlackNotifier, tmp_path: Path) -> None:
    """``audit verify`` takes the export as it is: the log that was signed for verifies, one made anew does not."""
    export = [{"user": "U1", "text": "is it up?"}, *(await _posted(slack, NOTES[5], NOTES[9])), {"text": "— yes"}]
    saved = tmp_path / "channel.json"
    saved.write_text(json.dumps(export, indent=2))

    assert check(ROWS, *checkpoint.find_notes(saved.read_text())).checkpoints == (5, 9)
    anew = check(make(12, tag="other")[0], *checkpoint.find_notes(saved.read_text()))
    assert not anew.ok and "the first 5 entries differ from a signed checkpoint" in anew.findings[0].message
    await slack.aclose()


@pytest.mark.parametrize(
    "pasted",
    [
        "remediator APP  10:15\nCheckpoint: 5 entries\nSigned\n{5}\nann  10:16\nthanks\n\nremediator APP  10:25\n{9}",
        "```\n{5}```\n```text\n{9}```\n",
        "> ```{5}> ```\n\n{9}",
        "{9}\n\n{5}",
    ],
)
def test_copied_messages_are_read_past_what_stands_around(pasted: str) -> None:
    """Names, times, fences and quotes of the chat; one after the other or in another order."""
    text = pasted.replace("{5}", NOTES[5]).replace("{9}", NOTES[9])

    for lines in (text, text.replace("\n", "\r\n"), "\n".join(f"    {line}" for line in text.split("\n"))):
        assert sorted(checkpoint.find_notes(lines)) == sorted([NOTES[5], NOTES[9]])


def test_a_lost_empty_line_is_put_back() -> None:
    """Some chats drop it; what was signed is the text above, so nothing is weakened."""
    assert list(checkpoint.find_notes(NOTES[5].replace("\n\n", "\n"))) == [NOTES[5]]


def test_an_edited_message_is_named() -> None:
    """Another number of entries in the chat: the signature does not fit it any more."""
    edited = NOTES[5].replace("\n5\n", "\n6\n")

    found = check(ROWS, *checkpoint.find_notes(f"remediator\n{edited}"))
    assert not found.ok and "signature" in found.findings[0].message


def test_talk_is_no_checkpoint(tmp_path: Path) -> None:
    """A dash at a line's beginning is none; a file without any is an error, never "verifies"."""
    (tmp_path / "chat").write_text("ann: all well?\n\n— yes indeed\n— said ann\n")
    (tmp_path / "key").write_text(SIGNER.verifier.encode() + "\n")
    (tmp_path / "log").write_bytes(b"")

    words = ("--export", tmp_path / "log", "--checkpoints", tmp_path / "chat", "--key", tmp_path / "key")
    done = CliRunner().invoke(command, ["verify", *map(str, words)])
    assert "contains no signed checkpoint" in str(done.exception)


@pytest.mark.parametrize("kind", sorted(set(HTTP) - {"pagerduty", "opsgenie"}))
async def test_every_chat_carries_it_verbatim(kind: str, tmp_path: Path) -> None:
    """No channel that may be named cuts, escapes for good, or reflows a note."""
    made = KINDS[kind](settings(kind, tmp_path))
    async with respx.mock(assert_all_called=False) as router:
        router.route().mock(return_value=httpx.Response(200, json=ANSWERS.get(kind, {})))
        await ChatWitness(made).publish(NOTES[12])
        sent = router.calls[0].request.content.decode()
    await made.aclose()

    if kind in _COPIED_ONLY:
        lines = [line for line in NOTES[12].split("\n") if line]
        assert all(line in json.dumps(json.loads(sent), ensure_ascii=False) for line in lines)
    else:
        shown = sent.replace("<pre>", "\\n").replace("</pre>", "\\n")  # as Telegram's markup is shown
        assert NOTES[12] in checkpoint.find_notes(shown)


async def test_what_the_chat_refuses_was_not_kept(slack: SlackNotifier) -> None:
    """Whatever the refusal, the notary says so with the channel's name, and the next checkpoint is tried again."""
    notary = ChatWitness(slack)
    answers = (
        httpx.Response(200, json={"ok": False, "error": "channel_not_found"}),
        httpx.Response(429, headers={"Retry-After": "7"}),
        httpx.Response(500),
        httpx.ConnectError("refused"),
    )
    for answer in answers:
        async with respx.mock(base_url=_API) as router:
            router.post("/api/chat.postMessage").mock(side_effect=[answer] * 9)
            with pytest.raises(WitnessError, match="cannot send the checkpoint"):
                await notary.publish(NOTES[3])
    await slack.aclose()


class _Slow(SlackNotifier):
    """A channel that takes for ever."""

    def __init__(self) -> None:
        """Without an address."""

    async def send(self, message: Message) -> Delivery:
        await asyncio.Event().wait()
        raise AssertionError


async def test_a_chat_that_hangs_does_not_hold_the_others_up() -> None:
    """It has its time, then it has not kept it."""
    with pytest.raises(WitnessError, match=r"within 0\.01 s"):
        await ChatWitness(_Slow(), timeout=0.01).publish(NOTES[3])


async def test_it_does_not_claim_what_it_cannot_do(slack: SlackNotifier) -> None:
    """It cannot read checkpoints from, takes nothing but checkpoints, and needs a channel that keeps words."""
    with pytest.raises(WitnessError, match="cannot read checkpoints from"):
        await ChatWitness(slack).fetch()
    with pytest.raises(BadNote):
        await ChatWitness(slack).publish("text\n")
    with pytest.raises(WitnessError, match="does not store messages unchanged"):
        ChatWitness(LogNotifier({}))
    await slack.aclose()


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
        await ChatWitness(channel).publish(NOTES[12])
    finally:
        controller.stop()
    body = message_from_bytes(kept[0], policy=default).get_body(("plain",))  # type: ignore[attr-defined]
    assert list(checkpoint.find_notes(body.get_content())) == [NOTES[12]]
