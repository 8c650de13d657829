"""``mattermost``: an incoming webhook of Mattermost."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from remediator.core.urls import UrlOrFile
from remediator.extensions.notifiers._http import HttpNotifier, fit
from remediator.extensions.notifiers.base import Delivery, Message, Tone

_COLOURS = {Tone.ASK: "#e0a000", Tone.PROBLEM: "#c0392b", Tone.GOOD: "#2e8b57", Tone.NOTE: "#5b7083"}


class MattermostSettings(UrlOrFile):
    """The webhook URL. It is a secret: use ``url_file``."""

    mentions: tuple[Annotated[str, Field(pattern=r"^@[a-z0-9._-]{2,64}$")], ...] = Field(
        default=(), max_length=10, description="Whom to mention when people are needed, for example @ann or @here."
    )


class MattermostNotifier(HttpNotifier):
    """Writes text from alerts into code blocks, where Mattermost does not parse mentions, links or markup."""

    kind = "mattermost"
    Settings = MattermostSettings
    settings: MattermostSettings

    async def send(self, message: Message) -> Delivery:
        links = [f"[{name}]({url})" for name, url in message.links]
        limit = _MAX_TEXT - len(message.title) - sum(map(len, links))
        lines = [f"##### {code(message.title)}"]
        for section in fit(message.sections, limit - 20 * len(message.sections)):
            lines += [f"**{section.heading}**", "```text", *(line.replace("`", "'") for line in section.lines), "```"]
        text = "\n".join([*lines, *links])
        attachment = {"color": _COLOURS[message.tone], "text": text, "fallback": code(message.title)}
        body: dict[str, Any] = {"attachments": [attachment]}
        if message.mention and self.settings.mentions:
            body["text"] = " ".join(self.settings.mentions)
        await self._poster.post(body)
        return Delivery()


_MAX_TEXT = 7500
"""Characters. Mattermost stores attachments in the properties of a post; older versions limit them to 8000."""


def code(text: str) -> str:
    """Return inline code. The text cannot end it."""
    return "`" + (text.replace("`", "'") or " ") + "`"
