"""``discord``: a Discord webhook. Messages are updated in place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any
from urllib.parse import urlsplit

import msgspec
from pydantic import Field

from remediator.core.text import shorten
from remediator.core.urls import UrlOrFile
from remediator.errors import BadAnswer
from remediator.extensions.notifiers._http import CHART_ALT_TEXT, HttpNotifier, fit, utf16_length
from remediator.extensions.notifiers.base import Delivery, Message, Tone

_COLOURS = {Tone.ASK: 0xE0A000, Tone.PROBLEM: 0xC0392B, Tone.GOOD: 0x2E8B57, Tone.NOTE: 0x5B7083}
_NO_MENTIONS: Mapping[str, Any] = {"parse": []}


class DiscordSettings(UrlOrFile):
    """The webhook URL. It is a secret: use ``url_file``."""

    mentions: tuple[Annotated[str, Field(pattern=r"^[@&]\d{5,20}$")], ...] = Field(
        default=(),
        max_length=10,
        description="Whom to mention when people are needed: @USER_ID or &ROLE_ID.",
    )


class DiscordNotifier(HttpNotifier):
    """Puts text from alerts into code blocks and turns all mentions off."""

    kind = "discord"
    Settings = DiscordSettings
    settings: DiscordSettings
    per_minute = 25
    attaches_charts = True

    async def send(self, message: Message) -> Delivery:
        waits = f"{self._path}{'&' if '?' in self._path else '?'}wait=true"
        answer = await self._poster.post(_payload(message, self.settings.mentions), waits)
        return Delivery({"message": str(answer.get("id", ""))})

    async def update(self, message: Message, receipt: Mapping[str, Any]) -> Delivery:
        """Update the message in place. Also post one line of news that people must notice: an update is silent."""
        if not receipt.get("message"):
            return await self.send(message)
        await self._poster.post(_payload(message), self._place(receipt), method="PATCH")
        if message.announce:
            await self._poster.post(_payload(replace(message, sections=(), ask=None)))
        return Delivery(receipt)

    async def add_chart(self, chart: bytes, receipt: Mapping[str, Any]) -> None:
        """Attach the chart below the embed. The embed is not sent again, because it may show the result by now."""
        if not receipt.get("message"):
            raise BadAnswer("discord: the answer has no message ID")
        told = {
            "attachments": [{"id": 0, "filename": "chart.png", "description": CHART_ALT_TEXT}],
            "allowed_mentions": _NO_MENTIONS,
        }
        form = {"payload_json": msgspec.json.encode(told).decode()}
        files = {"files[0]": ("chart.png", chart, "image/png")}
        await self._poster.post(None, self._place(receipt), method="PATCH", form=form, files=files)

    def _place(self, receipt: Mapping[str, Any]) -> str:
        return f"{urlsplit(self._path).path}/messages/{receipt['message']}"

    @property
    def _path(self) -> str:
        return self._poster.path


def block(text: str) -> str:
    """Return a code block. The text cannot end it."""
    return "```\n" + (text.replace("`", "'") or " ") + "\n```"


_MAX_TEXT = 5900
"""Characters in one embed. The limit of Discord is 6000; the rest is a margin for differences in counting."""
_FIELD = 1024 - len(block(""))


def _payload(message: Message, mentions: Sequence[str] = ()) -> dict[str, Any]:
    escaped = (f"\\{letter}" if letter in "\\*_~`|>[]()#-@<:" else letter for letter in shorten(message.title, 120))
    title = "".join(escaped).replace("://", ":\u200b//")  # at most 256 characters
    links = "\n".join(f"[{name}](<{url}>)" for name, url in message.links)
    sections = message.sections[:20]
    limit = _MAX_TEXT - utf16_length(title) - utf16_length(links) - len(sections) * len(block(""))
    embed = {
        "title": title,
        "color": _COLOURS[message.tone],
        "fields": [
            {"name": section.heading, "value": block("\n".join(section.lines)), "inline": False}
            for section in fit(sections, limit, _FIELD, utf16_length)
        ],
        "description": links,
    }
    if not (message.mention and mentions):
        return {"embeds": [embed], "allowed_mentions": _NO_MENTIONS}
    users, roles = ([item[1:] for item in mentions if item[0] == sign] for sign in "@&")
    text = " ".join([*(f"<@{user}>" for user in users), *(f"<@&{role}>" for role in roles)])
    return {"content": text, "embeds": [embed], "allowed_mentions": {"users": users, "roles": roles}}
