"""``teams``: a Microsoft Teams workflow that takes Adaptive Cards."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from typing import Any

from remediator.notifiers import Delivery, Message, Notifier, Section, Tone
from remediator.posting import Address, Poster, short

_COLOURS = {Tone.ASK: "Warning", Tone.PROBLEM: "Attention", Tone.GOOD: "Good", Tone.NOTE: "Default"}


class TeamsSettings(Address):
    """The workflow's address; it is a secret, so keep it in ``url_file``."""


class TeamsNotifier(Notifier):
    """Text from alerts stands in TextRuns, which know no markup."""

    kind = "teams"
    takes_charts = True
    Settings = TeamsSettings
    settings: TeamsSettings
    per_minute = 30

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__(settings)
        self._poster = Poster.of(self.kind, self.settings)

    async def aclose(self) -> None:
        await self._poster.aclose()

    async def send(self, message: Message) -> Delivery:
        attachment = {"contentType": "application/vnd.microsoft.card.adaptive", "content": card(message)}
        await self._poster.post({"type": "message", "attachments": [attachment]})
        return Delivery()


def card(message: Message) -> dict[str, Any]:
    """The Adaptive Card of a message."""
    return {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "body": list(_body(message)),
        "actions": list(_actions(message)),
    }


def _body(message: Message) -> Iterator[dict[str, Any]]:
    yield _block([{**_run(message.title), "weight": "Bolder", "size": "Medium", "color": _COLOURS[message.tone]}])
    for section in message.sections:
        yield _block([{**_run(section.heading), "weight": "Bolder"}])
        yield from _lines(section)
    if message.chart:
        picture = base64.b64encode(message.chart).decode()
        alt = "the expression of the alert over the last hour"
        yield {"type": "Image", "url": f"data:image/png;base64,{picture}", "altText": alt}


def _lines(section: Section) -> Iterator[dict[str, Any]]:
    font = {"fontType": "Monospace"} if section.exact else {}
    for line in section.lines[:12]:
        yield _block([{**_run(line), **font}]) | {"spacing": "Small"}


def _block(inlines: list[dict[str, Any]]) -> dict[str, Any]:
    return {"type": "RichTextBlock", "inlines": inlines}


def _run(text: str) -> dict[str, Any]:
    return {"type": "TextRun", "text": short(text, 1000) or " "}


def _actions(message: Message) -> Iterator[dict[str, Any]]:
    if message.ask is not None:
        yield {"type": "Action.OpenUrl", "title": "Look and decide", "url": message.ask.link}
    if message.link:
        yield {"type": "Action.OpenUrl", "title": "Follow the run", "url": message.link}
