"""``example``: Append messages to an HTML page."""

from __future__ import annotations

from html import escape
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from remediator.extensions.notifiers.base import Delivery, Message, Notifier


class PageSettings(BaseModel):
    """Where the page is."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    path: Path


class Page(Notifier):
    """Adds each message to an HTML file."""

    kind = "example"
    Settings = PageSettings

    async def send(self, message: Message) -> Delivery:
        with self.settings.path.open("a", encoding="utf-8") as page:
            page.write("".join(f"<p>{escape(line)}</p>\n" for line in message.text()))
        return Delivery()
