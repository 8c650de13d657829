"""``google_chat``: an incoming webhook of a Google Chat space."""

from __future__ import annotations

from html import escape
from typing import Annotated, Any
from urllib.parse import quote

from pydantic import Field

from remediator.core.text import shorten
from remediator.core.urls import UrlOrFile
from remediator.extensions.notifiers._http import HttpNotifier, fit
from remediator.extensions.notifiers.base import Delivery, Message


class GoogleChatSettings(UrlOrFile):
    """The webhook URL. It contains a key: use ``url_file``."""

    mentions: tuple[Annotated[str, Field(pattern=r"^users/(all|\d{5,30})$")], ...] = Field(
        default=(), max_length=10, description="Whom to mention when people are needed: users/ID or users/all."
    )


class GoogleChatNotifier(HttpNotifier):
    """Sends a card. Text from alerts is escaped, because paragraphs of cards accept some HTML."""

    kind = "google_chat"
    Settings = GoogleChatSettings
    settings: GoogleChatSettings
    per_minute = 50

    async def send(self, message: Message) -> Delivery:
        joined = "&" if "?" in self._poster.path else "?"
        # all messages of an incident are one thread; Google Chat drops a message with a known requestId
        path = f"{self._poster.path}{joined}messageReplyOption=REPLY_MESSAGE_FALLBACK_TO_NEW_THREAD"
        path += f"&requestId={quote(message.id, safe='')}"
        sections: list[dict[str, Any]] = []
        for section in fit(message.sections[:20], _MAX_TEXT, 8000, _bytes, overhead=8):
            lines = "<br>".join(escape(line) for line in section.lines)
            paragraph = {"textParagraph": {"text": lines or " "}}
            sections.append({"header": escape(section.heading), "widgets": [paragraph]})
        buttons = [{"text": name, "onClick": {"openLink": {"url": url}}} for name, url in message.links]
        if buttons:
            sections.append({"widgets": [{"buttonList": {"buttons": buttons}}]})
        card = {"header": {"title": shorten(message.title, 200)}, "sections": sections}
        body: dict[str, Any] = {"cardsV2": [{"cardId": message.id, "card": card}]}
        if message.run_id is not None:
            body["thread"] = {"threadKey": message.incident or message.run_id}
        if message.mention and self.settings.mentions:
            body["text"] = " ".join(f"<{item}>" for item in self.settings.mentions)
        answer = await self._poster.post(body, path)
        return Delivery({"name": str(answer.get("name", ""))})


_MAX_TEXT = 24_000
"""Bytes of text. The limit of Google Chat for a whole message is 32,000."""


def _bytes(text: str) -> int:
    return len(escape(text).encode("utf-8", "replace"))
