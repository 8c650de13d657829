"""``log``: the log of the service. It is always available, so every message has a channel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import structlog

from remediator.core.types import Strict
from remediator.extensions.notifiers.base import Delivery, Message, Notifier, Tone

_log: Any = structlog.get_logger("remediator.message")


class LogSettings(Strict):
    """No settings."""


class LogNotifier(Notifier):
    """Writes messages to the log, without the links that permit decisions."""

    kind = "log"
    keeps_history = False
    reaches_people = False
    Settings = LogSettings
    per_minute = 600

    async def send(self, message: Message) -> Delivery:
        body = {section.heading: list(section.lines) for section in message.sections}
        write = _log.warning if message.tone in (Tone.ASK, Tone.PROBLEM) else _log.info
        write(message.title, run=message.run_id, kind=message.kind, body=body)
        return Delivery()

    async def update(self, message: Message, receipt: Mapping[str, Any]) -> Delivery:
        """Log every change."""
        return await self.send(message)
