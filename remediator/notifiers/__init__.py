"""Notifiers: how people are told. A chat outage never blocks or loses a run: messages wait in the store."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar


@dataclass(frozen=True, slots=True)
class Message:
    """One message to one channel, as the store holds it. Everything in it is text for people, already redacted."""

    id: str
    run_id: str | None
    kind: str
    """``approval``, ``progress``, ``escalation``, ``notice``."""
    title: str
    body: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Delivery:
    """What the channel gave back: enough to update or answer the message later."""

    receipt: Mapping[str, Any] = field(default_factory=dict)


class Notifier(ABC):
    """One kind of channel. Raises ``ClientError`` when it could not deliver; the sender retries and escalates."""

    kind: ClassVar[str]

    def __init__(self, settings: Mapping[str, Any]) -> None:
        """Take the channel's settings; raise ``ConfigurationError`` if they cannot work."""

    @abstractmethod
    async def send(self, message: Message) -> Delivery:
        """Deliver once. May be called again for the same message id if the answer was lost."""
