"""Notifiers: how people are told. A chat outage never blocks or loses a run: messages wait in the store.

A message is the same for every channel; each notifier puts it into its channel's form, and escapes what it must so
that text from an alert is never a mention, a link or markup there.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar

from pydantic import BaseModel, ValidationError

from remediator.errors import ClientError, ConfigurationError


class Tone(StrEnum):
    """What a message wants of people."""

    ASK = "ask"
    PROBLEM = "problem"
    GOOD = "good"
    NOTE = "note"


class PermanentFailure(ClientError):
    """The channel refuses it, and would again: a wrong address, a revoked key, a malformed message."""


class RetryAfter(ClientError):
    """The channel has had enough for now.

    Attributes:
        seconds: after which it may be tried again.
    """

    def __init__(self, message: str, seconds: float) -> None:
        super().__init__(message)
        self.seconds = seconds


@dataclass(frozen=True, slots=True)
class Section:
    """A heading and what stands below it; ``exact`` text is shown as it is, letter by letter."""

    heading: str
    lines: tuple[str, ...]
    exact: bool = False


@dataclass(frozen=True, slots=True)
class Ask:
    """What a person can answer to a message."""

    approval: str
    until: datetime
    who: str
    """Who may approve, in words."""
    link: str
    """The page on which to decide; opening it changes nothing."""
    buttons: Mapping[str, str] = field(default_factory=dict)
    """Signed values for buttons of a chat that can prove who pressed them, by verb."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message to one channel. Everything in it is text for people, already redacted, without control characters."""

    id: str
    run_id: str | None
    kind: str
    """``approval``, ``update``, ``progress``, ``escalation``, ``notice``."""
    title: str
    """One line."""
    tone: Tone = Tone.NOTE
    sections: tuple[Section, ...] = ()
    ask: Ask | None = None
    link: str = ""
    """The run's page; empty if there is none."""
    body: Mapping[str, Any] = field(default_factory=dict)
    """The same for machines."""
    final: bool = False
    """The run is over: nothing more will be said of it."""
    chart: bytes = b""
    """The alert's expression over the last hour as a small PNG; empty if there is none."""

    @property
    def links(self) -> list[tuple[str, str]]:
        """What can be opened: the name of each link, and the link. None where no public address is set."""
        ask = "" if self.ask is None else self.ask.link
        return [(name, url) for name, url in (("Review and decide", ask), ("Show the run", self.link)) if url]

    @property
    def incident(self) -> str:
        """What a pager takes for one and the same: a run's request and what becomes of it. That a person is needed is
        news of its own: whoever has acknowledged the request would not be woken by it again."""
        return self.run_id if self.run_id and self.kind in ("approval", "update") else self.id.partition("~")[0]

    def text(self) -> Iterator[str]:
        """As plain text, line by line."""
        yield self.title
        for section in self.sections:
            yield ""
            yield section.heading
            yield from (f"  {line}" for line in section.lines)
        if self.links:
            yield ""
        yield from (f"{name}: {url}" for name, url in self.links)


@dataclass(frozen=True, slots=True)
class Delivery:
    """What the channel gave back: enough to update or answer the message later."""

    receipt: Mapping[str, Any] = field(default_factory=dict)


_SAID = {"missing": "{place!r} is missing", "extra_forbidden": "there is no setting {place!r}"}


class Notifier(ABC):
    """One kind of channel. Raises ``ClientError`` when it could not deliver; the sender retries and escalates.

    Args:
        settings: the channel's, as they stand in the settings file.

    Raises:
        ConfigurationError: they cannot work.
    """

    kind: ClassVar[str]
    Settings: ClassVar[type[BaseModel]]
    settings: Any
    per_minute: ClassVar[int] = 60
    """Most messages in a minute; more wait."""
    proves_people: ClassVar[bool] = False
    """Whether whoever presses a button there is known to us: then its messages have buttons."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        try:
            self.settings = self.Settings.model_validate(settings)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"])) or "settings"
            said = _SAID.get(first["type"], "{place}: {msg}").format(place=place, msg=first["msg"])
            raise ConfigurationError(f"{self.kind}: {said}") from None

    keeps: ClassVar[bool] = True
    """Whether people find there later what was sent, exact text letter by letter; a log or a pager is no such place."""
    takes_charts: ClassVar[bool] = False
    """Whether it shows :attr:`Message.chart` in the message itself; others are not made to wait for one."""
    adds_charts: ClassVar[bool] = False
    """Whether it takes a chart after the message, by :meth:`add_chart`."""

    @property
    def person(self) -> str | None:
        """The one person whom this channel reaches, as the people file names them; None if it reaches several."""
        return None

    @abstractmethod
    async def send(self, message: Message) -> Delivery:
        """Deliver once. May be called again for the same message id if the answer was lost."""

    async def follow(self, message: Message, receipt: Mapping[str, Any]) -> Delivery:
        """Say what became of a message that was delivered before; by default with another message."""
        return await self.send(message)

    async def add_chart(self, chart: bytes, receipt: Mapping[str, Any]) -> None:
        """Put a chart (PNG) beside a message that was delivered; it changes nothing in the message itself.

        Raises:
            ClientError: it is not there; the message is, and nothing is tried again.
        """

    async def aclose(self) -> None:
        """Close its connections."""
