"""The notifier contract. A notifier delivers messages to one channel.

Messages wait in the store, so an outage of a chat never blocks or loses a run. All channels get the same message. Each
notifier converts it to the format of its channel and escapes it: text from an alert is never a mention, a link or
markup.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar
from urllib.parse import urlsplit

from pydantic import BaseModel, ValidationError

from remediator.clients.egress import proxy_for
from remediator.clients.endpoints import read_secret
from remediator.core.message import MessageKind
from remediator.errors import ClientError, ConfigurationError


class Tone(StrEnum):
    """The purpose of a message, for its colour or priority."""

    ASK = "ask"
    PROBLEM = "problem"
    GOOD = "good"
    NOTE = "note"


class PermanentFailure(ClientError):
    """The channel refuses the message permanently, for example because of a wrong address or a revoked key."""


class RetryAfter(ClientError):
    """The channel limits the rate of messages.

    Attributes:
        seconds: how long to wait before the next attempt.
    """

    def __init__(self, message: str, seconds: float) -> None:
        super().__init__(message)
        self.seconds = seconds


@dataclass(frozen=True, slots=True)
class Section:
    """A heading and the lines below it. ``exact`` lines are shown unchanged, in a fixed-width font."""

    heading: str
    lines: tuple[str, ...]
    exact: bool = False


@dataclass(frozen=True, slots=True)
class Ask:
    """The approval request in a message."""

    approval: str
    until: datetime
    who: str
    """Who may approve, as text."""
    link: str
    """The page of the request. Opening it changes nothing."""
    buttons: Mapping[str, str] = field(default_factory=dict)
    """Signed button values by verb, for a chat that identifies its users."""


NEXT_STEP = "Next step"
"""Heading of the section with the next actions for people."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message to one channel. Its text is already redacted and has no control characters."""

    id: str
    run_id: str | None
    kind: MessageKind
    title: str
    """One line."""
    tone: Tone = Tone.NOTE
    sections: tuple[Section, ...] = ()
    ask: Ask | None = None
    link: str = ""
    """The page of the run; possibly empty."""
    body: Mapping[str, Any] = field(default_factory=dict)
    """The same content as data."""
    incident: str = ""
    """The key by which a pager groups messages: the incident, or the message itself if it has no incident."""
    severity: str = "warning"
    """The highest severity of the alerts: ``critical``, ``error``, ``warning`` or ``info``."""
    announce: bool = False
    """For an update: whether people must notice it. A channel that changes its message silently also sends one line."""
    over: bool = False
    """Whether the incident is over: healed, or its alerts are over."""
    thread: Mapping[str, Any] = field(default_factory=dict)
    """The receipt of the first message about the incident in this channel; empty if this is the first one."""
    mention: bool = False
    """Whether to mention the people and groups of the channel's settings, so that their devices notify them."""
    buttons: Mapping[str, str] = field(default_factory=dict)
    """Signed values by verb of the buttons about the run, for a chat that identifies its users."""
    chart: bytes = b""
    """A small PNG of the alert's expression over the last hour; possibly empty."""

    @property
    def links(self) -> list[tuple[str, str]]:
        """Return the label and URL of each link. Without ``public_url`` in the settings, there are no links."""
        ask = "" if self.ask is None else self.ask.link
        return [(name, url) for name, url in (("Review and decide", ask), ("Show the run", self.link)) if url]

    def brief(self) -> Message:
        """Return the message with its title, its first section, and the next step of people only."""
        kept = (*self.sections[:1], *(item for item in self.sections[1:] if item.heading == NEXT_STEP))
        return replace(self, sections=kept, ask=None, buttons={}, chart=b"")

    def text(self) -> Iterator[str]:
        """Return the message as lines of plain text."""
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
    """The receipt of a delivered message. It is needed to update the message later."""

    receipt: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PressedButton:
    """A button that a person pressed, as the chat reports it."""

    id: str
    """Identifies the press."""
    user: str
    """ID of the user, as the people file has it."""
    value: str
    """Value of the button."""
    position: int
    """Its place in the stream of the chat."""


PLACEHOLDER_DOMAIN = ".invalid"
"""Names that never exist (RFC 6761). The examples use these names for addresses that a person must replace."""
_ERROR_TEXT = {"missing": "missing setting {place!r}", "extra_forbidden": "unknown setting {place!r}"}


class Notifier(ABC):
    """Base class of a notifier. It raises ``ClientError`` if a delivery failed; the outbox then retries.

    Args:
        settings: the settings of the channel from the settings file.

    Raises:
        ConfigurationError: the settings are invalid.
    """

    kind: ClassVar[str]
    Settings: ClassVar[type[BaseModel]]
    settings: Any
    per_minute: ClassVar[int] = 60
    """Maximum number of messages per minute. Further messages wait."""
    identifies_people: bool = False
    """Whether the chat proves who pressed a button. Only then do messages have buttons."""
    short_buttons: ClassVar[bool] = False
    """Whether the chat allows only 64 bytes in a button, so that its values are short."""
    polls_buttons: bool = False
    """Whether this service asks the chat for pressed buttons (:meth:`poll_buttons`)."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        try:
            self.settings = self.Settings.model_validate(settings)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"])) or "settings"
            said = _ERROR_TEXT.get(first["type"], "{place}: {msg}").format(place=place, msg=first["msg"])
            raise ConfigurationError(f"{self.kind}: {said}") from None

    keeps_history: ClassVar[bool] = True
    """Whether users can read sent messages later, with exact text unchanged. False for logs and pagers."""
    embeds_charts: ClassVar[bool] = False
    """Whether :meth:`send` includes :attr:`Message.chart`. If not, messages do not wait for the chart."""
    attaches_charts: ClassVar[bool] = False
    """Whether :meth:`add_chart` adds a chart after the message was sent."""

    reaches_people: ClassVar[bool] = True
    """Whether a person sees a message soon after it was sent. False for a log."""

    @property
    def obstacle(self) -> str | None:
        """Return why no person sees the messages of this channel; None if nothing is known against it."""
        if not self.reaches_people:
            return f"{self.kind} notifies nobody"
        host = urlsplit(self._given_url).hostname or ""
        return f"the host {host} is a placeholder" if host.endswith(PLACEHOLDER_DOMAIN) else None

    @property
    def _given_url(self) -> str:
        file, url = getattr(self.settings, "url_file", None), str(getattr(self.settings, "url", ""))
        with suppress(OSError, ValueError):  # the delivery reports an unreadable file
            url = url if file is None else read_secret(file)
        return url

    @property
    def address(self) -> tuple[str, int] | None:
        """Return host and port of the server that messages are sent to; None without one, or if it is unknown."""
        url = self._given_url
        parts = urlsplit(proxy_for(url) or url)
        if parts.hostname:
            return parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)
        host, port = getattr(self.settings, "host", None), getattr(self.settings, "port", None)
        return (host, port) if isinstance(host, str) and isinstance(port, int) else None

    @property
    def person(self) -> str | None:
        """Return the ID of the only recipient, as in the people file. None if there are several recipients."""
        return None

    @abstractmethod
    async def send(self, message: Message) -> Delivery:
        """Deliver a message. It may be called again with the same message ID if the answer was lost."""

    async def update(self, message: Message, receipt: Mapping[str, Any]) -> Delivery:
        """Show the news in a message that was delivered before.

        A channel that cannot change a message sends one short message if people must notice the news, never the whole
        message twice. By default, send its :meth:`Message.brief` form then.
        """
        return await self.send(message.brief()) if message.announce else Delivery(receipt)

    async def add_chart(self, chart: bytes, receipt: Mapping[str, Any]) -> None:
        """Add a chart (PNG) to a delivered message, without a change of the message itself.

        Raises:
            ClientError: the chart was not added. The message stays, and nothing is retried.
        """

    async def poll_buttons(self, after: int, wait: float) -> Sequence[PressedButton]:
        """Return the buttons that were pressed after a position, in order; wait up to ``wait`` seconds for the first.

        Raises:
            ClientError: the chat does not answer.
        """
        return ()

    async def answer_button(self, button_id: str, text: str) -> None:
        """Show an answer to the person who pressed a button.

        Raises:
            ClientError: the answer was not delivered.
        """

    async def aclose(self) -> None:
        """Close its connections."""
