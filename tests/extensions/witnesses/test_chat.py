"""Checkpoints in a chat, read back from a copy or an export of the messages."""

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
# an Adaptive Card shows each line as a block, and Google Chat shows paragraphs: people copy the shown text
_COPIED_ONLY = {"teams", "google_chat"}


@pytest.fixture
def slack(tmp_path: Path) -> SlackNotifier:
    """Return a Slack channel as the settings file defines it."""
    (tmp_path / "token").write_text("xoxb-test")
    return SlackNotifier({"token_file": str(tmp_path / "token"), "channel": "C1", "api": _API})


async def _posted(slack: SlackNotifier, *notes: str) -> list[Any]:
    """Return the requests to Slack for these checkpoints."""
    notary = ChatWitness(slack)
    async with respx.mock(base_url=_API) as router:
        router.post("/api/chat.postMessage").mock(return_value=httpx.Response(200, json=ANSWERS["slack"]))
        assert [await notary.publish(each) for each in notes] == ["slack channel C1, ts 1.2"] * len(notes)
        return [json.loads(call.request.content) for call in router.calls]


async def test_the_message_contains_the_note_in_a_code_block(slack: SlackNotifier) -> None:
    """The message contains the unchanged note in a code block, with a title."""
    [body] = await _posted(slack, NOTES[3])

    block = body["blocks"][1]["elements"][1]
    assert block["type"] == "rich_text_preformatted"
    assert block["elements"] == [{"type": "text", "text": NOTES[3].removesuffix("\n")}]
    assert "3 entries" in body["text"]
    await slack.aclose()


async def test_an_export_of_the_channel_finds_a_rewritten_chain(slack: SlackNotifier, tmp_path: Path) -> None:
    """``audit verify`` reads the export unchanged: the signed log verifies, and a rewritten log does not."""
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
def test_notes_are_found_in_copied_messages(pasted: str) -> None:
    """Names, times, code fences and quote marks of the chat are ignored, in any order of the messages."""
    text = pasted.replace("{5}", NOTES[5]).replace("{9}", NOTES[9])

    for lines in (text, text.replace("\n", "\r\n"), "\n".join(f"    {line}" for line in text.split("\n"))):
        assert sorted(checkpoint.find_notes(lines)) == sorted([NOTES[5], NOTES[9]])


def test_a_lost_empty_line_is_restored() -> None:
    """Some chats drop the empty line before the signature; the signed text is unchanged, so the note still verifies."""
    assert list(checkpoint.find_notes(NOTES[5].replace("\n\n", "\n"))) == [NOTES[5]]


def test_an_edited_message_is_named() -> None:
    """If the number of entries in the chat was changed, the signature does not match."""
    edited = NOTES[5].replace("\n5\n", "\n6\n")

    found = check(ROWS, *checkpoint.find_notes(f"remediator\n{edited}"))
    assert not found.ok and "signature" in found.findings[0].message


def test_a_chat_message_is_not_a_checkpoint(tmp_path: Path) -> None:
    """A line that begins with a dash is not a checkpoint; a file without checkpoints is an error."""
    (tmp_path / "chat").write_text("ann: all well?\n\n— yes indeed\n— said ann\n")
    (tmp_path / "key").write_text(SIGNER.verifier.encode() + "\n")
    (tmp_path / "log").write_bytes(b"")

    words = ("--export", tmp_path / "log", "--checkpoints", tmp_path / "chat", "--key", tmp_path / "key")
    done = CliRunner().invoke(command, ["verify", *map(str, words)])
    assert "contains no signed checkpoint" in str(done.exception)


@pytest.mark.parametrize("kind", sorted(set(HTTP) - {"pagerduty", "opsgenie"}))
async def test_every_chat_sends_the_note_unchanged(kind: str, tmp_path: Path) -> None:
    """Every chat channel sends a note unchanged: not cut, not escaped, and with its line breaks."""
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
        shown = sent.replace("<pre>", "\\n").replace("</pre>", "\\n")  # as Telegram shows its markup
        assert NOTES[12] in checkpoint.find_notes(shown)


async def test_a_note_that_the_chat_refuses_does_not_count_as_kept(slack: SlackNotifier) -> None:
    """Each refusal is reported as an error, so the checkpoint does not count as kept."""
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
    """A channel that never answers."""

    def __init__(self) -> None:
        """Create the channel without an address."""

    async def send(self, message: Message) -> Delivery:
        await asyncio.Event().wait()
        raise AssertionError


async def test_a_hung_chat_does_not_delay_the_others() -> None:
    """The call ends at its timeout with an error."""
    with pytest.raises(WitnessError, match=r"within 0\.01 s"):
        await ChatWitness(_Slow(), timeout=0.01).publish(NOTES[3])


async def test_the_witness_reports_what_it_cannot_do(slack: SlackNotifier) -> None:
    """The witness cannot read checkpoints, sends nothing else than checkpoints, and needs a channel that keeps messages
    unchanged."""
    with pytest.raises(WitnessError, match="cannot read checkpoints from"):
        await ChatWitness(slack).fetch()
    with pytest.raises(BadNote):
        await ChatWitness(slack).publish("text\n")
    with pytest.raises(WitnessError, match="does not store messages unchanged"):
        ChatWitness(LogNotifier({}))
    await slack.aclose()


async def test_notes_are_found_in_a_mail(tmp_path: Path) -> None:
    """The text part of a mail is read in every encoding."""
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
