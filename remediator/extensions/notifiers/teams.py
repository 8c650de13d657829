"""``teams``: a Microsoft Teams workflow that accepts Adaptive Cards."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from pydantic import Field

from remediator.core.urls import UrlOrFile
from remediator.extensions.notifiers._http import CHART_ALT_TEXT, HttpNotifier, fit
from remediator.extensions.notifiers.base import Delivery, Message, Tone

_COLOURS = {Tone.ASK: "Warning", Tone.PROBLEM: "Attention", Tone.GOOD: "Good", Tone.NOTE: "Default"}


class TeamsSettings(UrlOrFile):
    """The workflow URL. It is a secret: use ``url_file``."""

    mentions: tuple[Annotated[str, Field(pattern=r"^[\w.+-]+@[\w.-]+$")], ...] = Field(
        default=(), max_length=5, description="User principal names to mention when people are needed."
    )


class TeamsNotifier(HttpNotifier):
    """Writes text from alerts into TextRuns, where Teams does not parse markup."""

    kind = "teams"
    embeds_charts = True
    Settings = TeamsSettings
    settings: TeamsSettings
    per_minute = 30

    async def send(self, message: Message) -> Delivery:
        content = card(message, self.settings.mentions)
        attachment = {"contentType": "application/vnd.microsoft.card.adaptive", "content": content}
        await self._poster.post({"type": "message", "attachments": [attachment]})
        return Delivery()


def card(message: Message, mentions: Sequence[str] = ()) -> dict[str, Any]:
    """Return the Adaptive Card of a message."""
    people = mentions if message.mention else ()
    texts = [f"<at>{item}</at>" for item in people]
    first = [{"type": "TextBlock", "text": " ".join(texts), "wrap": True}] if texts else []
    entities = [
        {"type": "mention", "text": text, "mentioned": {"id": item, "name": item}}
        for item, text in zip(people, texts, strict=True)
    ]
    body = [
        *first,
        _block([{**_run(message.title), "weight": "Bolder", "size": "Medium", "color": _COLOURS[message.tone]}]),
    ]
    picture = base64.b64encode(message.chart).decode()
    picture = picture if len(picture) <= _MAX_PICTURE else ""
    taken = _bytes(message.title) + len(picture) + sum(len(url) + 100 for _, url in message.links)
    for section in fit(message.sections, _MAX_TEXT - taken, length=_bytes, overhead=_LINE_OVERHEAD):
        body.append(_block([{**_run(section.heading), "weight": "Bolder"}]))
        font = {"fontType": "Monospace"} if section.exact else {}
        body += [_block([{**_run(line), **font}]) | {"spacing": "Small"} for line in section.lines]
    if picture:
        body.append({"type": "Image", "url": f"data:image/png;base64,{picture}", "altText": CHART_ALT_TEXT})
    return {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "body": body,
        "actions": [{"type": "Action.OpenUrl", "title": name, "url": url} for name, url in message.links],
        **({"msteams": {"entities": entities}} if entities else {}),
    }


_MAX_TEXT = 25_000
"""Bytes of text. The limit of Teams for a whole message is 28 KB."""
_MAX_PICTURE = 12_000
"""Bytes of the chart in base64. A larger chart is omitted, so that the text fits."""


def _bytes(text: str) -> int:
    return len(msgspec.json.encode(text))


def _block(inlines: list[dict[str, Any]]) -> dict[str, Any]:
    return {"type": "RichTextBlock", "inlines": inlines}


def _run(text: str) -> dict[str, Any]:
    return {"type": "TextRun", "text": text or " "}


_LINE_OVERHEAD = len(msgspec.json.encode(_block([{**_run(" "), "fontType": "Monospace"}]) | {"spacing": "Small"}))
