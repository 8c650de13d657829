"""``mattermost``: an incoming webhook of Mattermost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from remediator.notifiers import Delivery, Message, Notifier, Tone
from remediator.posting import Address, Poster, short

_COLOURS = {Tone.ASK: "#e0a000", Tone.PROBLEM: "#c0392b", Tone.GOOD: "#2e8b57", Tone.NOTE: "#5b7083"}


class MattermostSettings(Address):
    """The webhook's address; it is a secret, so keep it in ``url_file``."""


class MattermostNotifier(Notifier):
    """Text from alerts stands in code blocks, where Mattermost reads neither mentions nor links nor markup."""

    kind = "mattermost"
    Settings = MattermostSettings
    settings: MattermostSettings

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__(settings)
        self._poster = Poster.of(self.kind, self.settings)

    async def aclose(self) -> None:
        await self._poster.aclose()

    async def send(self, message: Message) -> Delivery:
        text = short("\n".join(_lines(message)), 7500)
        attachment = {"color": _COLOURS[message.tone], "text": text, "fallback": code(message.title)}
        await self._poster.post({"attachments": [attachment]})
        return Delivery()


def code(text: str) -> str:
    """Inline code that cannot be left from inside."""
    return "`" + (text.replace("`", "'") or " ") + "`"


def _lines(message: Message) -> Iterator[str]:
    yield f"##### {code(message.title)}"
    for section in message.sections:
        yield f"**{section.heading}**"
        yield "```text"
        yield from (short(line, 1000).replace("`", "'") for line in section.lines[:12])
        yield "```"
    if message.ask is not None:
        yield f"[Look and decide]({message.ask.link})"
    if message.link:
        yield f"[Follow the run]({message.link})"
