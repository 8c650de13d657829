"""``log``: the service's own log. Always there, so that no message has nowhere to go."""

from __future__ import annotations

from typing import Any

import structlog

from remediator.core.types import Strict
from remediator.extensions.notifiers.base import Delivery, Message, Notifier

_log: Any = structlog.get_logger("remediator.message")


class LogSettings(Strict):
    """None."""


class LogNotifier(Notifier):
    """Writes messages into the log; links that let people decide stay out of it."""

    kind = "log"
    keeps = False
    Settings = LogSettings
    per_minute = 600

    async def send(self, message: Message) -> Delivery:
        body = {section.heading: list(section.lines) for section in message.sections}
        _log.warning(message.title, run=message.run_id, kind=message.kind, body=body)
        return Delivery()
