"""``example``: Append messages to an HTML page."""

from __future__ import annotations

from html import escape
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from remediator.plugin_api import Delivery, Message, Notifier


class PageSettings(BaseModel):
    """Settings of the ``example`` notifier."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    path: Path


class Page(Notifier):
    """Append each message to an HTML file."""

    kind = "example"
    Settings = PageSettings

    async def send(self, message: Message) -> Delivery:
        with self.settings.path.open("a", encoding="utf-8") as page:
            page.write("".join(f"<p>{escape(line)}</p>\n" for line in message.text()))
        return Delivery()
