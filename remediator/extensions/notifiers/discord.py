"""``discord``: a Discord webhook."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import msgspec

from remediator.errors import BadAnswer
from remediator.extensions.notifiers._http import ALT, Address, Poster, fit, short, utf16
from remediator.extensions.notifiers.base import Delivery, Message, Notifier, Section, Tone

_COLOURS = {Tone.ASK: 0xE0A000, Tone.PROBLEM: 0xC0392B, Tone.GOOD: 0x2E8B57, Tone.NOTE: 0x5B7083}
_NOBODY: Mapping[str, Any] = {"parse": []}


class DiscordSettings(Address):
    """The webhook's address; it is a secret, so keep it in ``url_file``."""


class DiscordNotifier(Notifier):
    """Text from alerts stands in code blocks; no mention is ever allowed."""

    kind = "discord"
    Settings = DiscordSettings
    settings: DiscordSettings
    per_minute = 25
    adds_charts = True

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__(settings)
        self._poster = Poster.of(self.kind, self.settings)

    async def aclose(self) -> None:
        await self._poster.aclose()

    async def send(self, message: Message) -> Delivery:
        waits = f"{self._path}{'&' if '?' in self._path else '?'}wait=true"
        answer = await self._poster.post(_payload(message), waits)
        return Delivery({"message": str(answer.get("id", ""))})

    async def follow(self, message: Message, receipt: Mapping[str, Any]) -> Delivery:
        """In place."""
        if not receipt.get("message"):
            return await self.send(message)
        await self._poster.post(_payload(message), self._place(receipt), method="PATCH")
        return Delivery(receipt)

    async def add_chart(self, chart: bytes, receipt: Mapping[str, Any]) -> None:
        """Below the embed, which is left as it is: it may say by now what became of the request."""
        if not receipt.get("message"):
            raise BadAnswer("discord did not say which message it was")
        told = {"attachments": [{"id": 0, "filename": "chart.png", "description": ALT}], "allowed_mentions": _NOBODY}
        form = {"payload_json": msgspec.json.encode(told).decode()}
        files = {"files[0]": ("chart.png", chart, "image/png")}
        await self._poster.post(None, self._place(receipt), method="PATCH", form=form, files=files)

    def _place(self, receipt: Mapping[str, Any]) -> str:
        return f"{urlsplit(self._path).path}/messages/{receipt['message']}"

    @property
    def _path(self) -> str:
        return self._poster.path


def block(text: str) -> str:
    """A code block in which nothing means anything; it cannot be left from inside."""
    return "```\n" + (text.replace("`", "'") or " ") + "\n```"


_ALL = 5900
"""Characters that Discord takes in one embed: 6000, of which a few are left for what it may count otherwise."""
_FIELD = 1024 - len(block(""))


def _payload(message: Message) -> dict[str, Any]:
    title = _plain(short(message.title, 120))  # 256, after escaping
    links = "\n".join(f"[{name}](<{url}>)" for name, url in message.links)
    sections = message.sections[:20]
    room = _ALL - utf16(title) - utf16(links) - len(sections) * len(block(""))
    embed = {
        "title": title,
        "color": _COLOURS[message.tone],
        "fields": [_field(section) for section in fit(sections, room, _FIELD, utf16)],
        "description": links,
    }
    return {"embeds": [embed], "allowed_mentions": _NOBODY}


def _plain(text: str) -> str:
    escaped = "".join(f"\\{letter}" if letter in "\\*_~`|>[]()#-@<:" else letter for letter in text)
    return escaped.replace("://", ":\u200b//")


def _field(section: Section) -> dict[str, Any]:
    return {"name": section.heading, "value": block("\n".join(section.lines)), "inline": False}
