"""``log``: the service's own log. Always there, so that no message has nowhere to go."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import structlog

from remediator.notifiers import Delivery, Message, Notifier

_log: Any = structlog.get_logger("remediator.message")


class LogNotifier(Notifier):
    """Writes messages into the log."""

    kind = "log"

    def __init__(self, settings: Mapping[str, Any]) -> None:
        """Takes no settings."""

    async def send(self, message: Message) -> Delivery:
        _log.warning(message.title, run=message.run_id, kind=message.kind, **{"body": dict(message.body)})
        return Delivery()
