"""Limits of connections: they hold before a request is authenticated, and before it is complete.

uvicorn limits neither the size of headers nor the time in which they arrive. Without limits, a few hundred connections
that never send a request take all descriptors, and then the webhook is silent.

- A connection must send its headers, and then its body, within a time, and the headers have a maximum size.
- When all places are taken, the connection that has waited longest without a complete request is closed, and the new
  one is accepted. A webhook request is complete at once, so such connections cannot keep it out.
- Requests that are answered slowly cannot take the places that are reserved for the webhook: they get ``503``. - Only a
few requests of a connection may wait for the answer to an earlier request: each request takes 30 KiB of memory. -
Descriptors are reserved for files and for outgoing calls.
"""

from __future__ import annotations

import asyncio
import resource
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.protocols.utils import get_remote_addr

from remediator.core.listen import network_of

MAX_HEADER_BYTES = 32 * 1024
MAX_HEADERS = 100
MAX_PIPELINED = 16
"""Maximum number of requests of one connection that wait for earlier answers.

Browsers and Alertmanager send no such requests.
"""
HEADER_SECONDS = 10.0
"""Seconds within which the headers of a request must arrive."""
BODY_SECONDS = 30.0
"""Seconds within which the body must arrive."""
WEBHOOK_BODY_SECONDS = 60.0
"""Seconds within which the body of a notification must arrive. Alertmanager itself gives up earlier."""
STALL_SECONDS = 60.0
"""Seconds within which a client must read a part of an answer."""
MAX_CONNECTIONS = 4096
RESERVED_FOR_WEBHOOK = 64
"""Places that only webhook requests can take."""
RESERVED_DESCRIPTORS = 256
"""Descriptors that connections leave for files, the database and outgoing calls."""
MAX_PER_ADDRESS = 256
_SWEEP = 1.0
_WANTED_DESCRIPTORS = 16_384


class Phase(Enum):
    """The phase of a connection."""

    HEADERS = "headers"
    """The connection is new, or the headers of its request are incomplete."""
    BODY = "body"
    """The headers are complete, the body is not."""
    ANSWER = "answer"
    """The request is complete and is being answered."""
    IDLE = "idle"
    """It waits for another request."""


def raise_descriptor_limit() -> int:
    """Raise the soft limit of open files to the hard limit; return the limit that holds now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _WANTED_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _WANTED_DESCRIPTORS)
    if wanted <= soft:
        return soft
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (OSError, ValueError):  # a container may refuse this socket option
        return soft
    return wanted


@dataclass(slots=True)
class ConnectionLimits:
    """The connections of this process.

    Args:
        webhook_paths: paths whose requests may use the reserved places.
        maximum: number of connections.
        per_address: number of connections from one address; a trusted proxy is exempt.
        trusted: returns whether an address belongs to the trusted proxy.
        on_refused: called with a reason for each connection that is refused or closed; for the metrics.
    """

    webhook_paths: Collection[bytes]
    maximum: int = MAX_CONNECTIONS
    per_address: int = MAX_PER_ADDRESS
    trusted: Callable[[str], bool] = lambda address: False
    on_refused: Callable[[str], None] = lambda reason: None
    open: dict[LimitedProtocol, None] = field(default_factory=dict)
    """Open connections, the oldest first."""
    by_address: Counter[str] = field(default_factory=Counter)
    _sweeper: asyncio.TimerHandle | None = None

    @classmethod
    def for_descriptors(cls, descriptors: int, webhook_paths: Collection[bytes], **more: Any) -> ConnectionLimits:
        """Return the limits for a number of descriptors."""
        maximum = max(RESERVED_FOR_WEBHOOK + 16, min(MAX_CONNECTIONS, descriptors - RESERVED_DESCRIPTORS))
        return cls(webhook_paths, maximum, min(MAX_PER_ADDRESS, maximum // 2), **more)

    @property
    def overloaded(self) -> bool:
        """Whether only the places that are reserved for the webhook are left."""
        busy = sum(1 for item in self.open if item.phase in (Phase.BODY, Phase.ANSWER) and not item.is_webhook)
        return busy >= self.maximum - RESERVED_FOR_WEBHOOK

    def add(self, connection: LimitedProtocol) -> bool:
        """Add a connection.

        If no place is free, close the connection that has waited longest. Return False if no connection waits.
        """
        address = connection.address
        # a Unix socket has no addresses: its connections come from one proxy
        if address and not self.trusted(address) and self.by_address[address] >= self.per_address:
            others = [item for item in self.open if item.address == address]
            if not self._evict(others, "per_address"):
                return False
        if len(self.open) >= self.maximum and not self._evict(list(self.open), "maximum"):
            return False
        self.open[connection] = None
        self.by_address[address] += 1
        if self._sweeper is None:
            self._sweeper = connection.loop.call_later(_SWEEP, self._sweep, connection.loop)
        return True

    def remove(self, connection: LimitedProtocol) -> None:
        """Remove a closed connection."""
        if connection in self.open:
            del self.open[connection]
            self.by_address[connection.address] -= 1
            if self.by_address[connection.address] <= 0:
                del self.by_address[connection.address]

    def _evict(self, among: Collection[LimitedProtocol], reason: str) -> bool:
        """Close the connection without a complete request that has waited longest."""
        for phase in (Phase.HEADERS, Phase.IDLE, Phase.BODY):
            waiting = [item for item in among if item.phase is phase and not (phase is Phase.BODY and item.is_webhook)]
            if waiting:
                oldest = min(waiting, key=lambda item: item.since)
                self.on_refused(reason)
                self.remove(oldest)
                oldest.transport.abort()
                return True
        return False

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        for connection in list(self.open):
            if (late := connection.is_late(now)) is not None:
                self.on_refused(late)
                connection.give_up()
        self._sweeper = loop.call_later(_SWEEP, self._sweep, loop) if self.open else None


class LimitedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with the limits of this module. Use :func:`limited_protocol`."""

    limits: ConnectionLimits

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.phase = Phase.HEADERS
        self.since = self.loop.time()
        self.is_webhook = False
        self.address = ""
        self._stalled_at: float | None = None
        self._head_bytes = 0
        self._field_bytes = 0
        self._too_large = False
        self._too_many = False
        self._established = False

    def take_place(self, transport: asyncio.Transport) -> None:
        """Take a place for a connection, before its TLS handshake; close the connection if no place is free."""
        self.transport = transport
        peer = get_remote_addr(transport)
        self.address = network_of(peer[0] if peer else "")
        if not self.limits.add(self):
            self.limits.on_refused("no_place")
            transport.abort()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Accept a connection if there is a place for it."""
        if self.transport is None:
            self.take_place(transport)
        super().connection_made(transport)
        self._established = True

    def connection_lost(self, exc: Exception | None) -> None:
        """Free the place."""
        self.limits.remove(self)
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Note since when the client does not read."""
        self._stalled_at = self.loop.time()
        super().pause_writing()

    def resume_writing(self) -> None:
        """The client reads again."""
        self._stalled_at = None
        super().resume_writing()

    def data_received(self, data: bytes) -> None:
        """Count the bytes of headers that are not complete yet."""
        if self.phase is Phase.IDLE:
            self._begin()
        if self.phase is Phase.HEADERS:
            self._head_bytes += len(data)
        super().data_received(data)
        if self.phase is Phase.HEADERS and self._head_bytes > MAX_HEADER_BYTES and not self.transport.is_closing():
            self._too_large = True
            self.send_400_response("")

    def send_400_response(self, msg: str) -> None:
        """Answer 431 if the headers are too large, otherwise 400; no answer while earlier requests wait."""
        if self._too_many:
            self.limits.on_refused("pipelined")
            self.transport.abort()
            return
        if not self._too_large:
            super().send_400_response(msg)
            return
        self.limits.on_refused("headers_too_large")
        self._answer(431, f"the headers are larger than {MAX_HEADER_BYTES} bytes or more than {MAX_HEADERS}")

    def on_message_begin(self) -> None:
        """Start to count a request."""
        if self.phase is not Phase.HEADERS:
            self._begin()
        self._field_bytes = 0
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count headers and trailers; too many end the connection."""
        self._field_bytes += len(name) + len(value)
        if self._field_bytes > MAX_HEADER_BYTES or len(self.headers) >= MAX_HEADERS:
            self._too_large = True
            raise ValueError("headers too large")  # the parser stops, and send_400_response answers
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Begin to answer, unless only the places of the webhook are left or too many requests wait already."""
        if len(self.pipeline) >= MAX_PIPELINED:
            self._too_many = True
            raise ValueError("too many requests wait for an answer")  # the parser stops, as above
        self._enter(Phase.BODY)
        self._head_bytes = 0
        self.is_webhook = self.url in self.limits.webhook_paths
        self.limit_concurrency = 0 if not self.is_webhook and self.limits.overloaded else None
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The request is complete."""
        if not (self.cycle is not None and self.cycle.response_complete):
            self._enter(Phase.ANSWER)
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        self._enter(Phase.IDLE)
        super().on_response_complete()

    def is_late(self, now: float) -> str | None:
        """Return the deadline that has passed; None if no deadline has passed."""
        body = WEBHOOK_BODY_SECONDS if self.is_webhook else BODY_SECONDS
        waited = now - self.since
        if self.phase is Phase.HEADERS and waited > HEADER_SECONDS:
            return "headers_late"
        if self.phase is Phase.BODY and waited > body:
            return "body_late"
        if self._stalled_at is not None and now - self._stalled_at > STALL_SECONDS:
            return "answer_not_read"
        return None

    def give_up(self) -> None:
        """Close the connection, with an answer if no answer has begun."""
        unfinished = self.cycle is not None and self.cycle.response_started
        if not self._established or self._stalled_at is not None or unfinished:
            self.transport.abort()
        elif self.is_webhook:  # Alertmanager repeats what got 503, and drops what got 408
            self._answer(503, "the notification did not arrive in time and is not stored: send it again")
        else:
            self._answer(408, "the request did not arrive in time")

    def _begin(self) -> None:
        self._enter(Phase.HEADERS)
        self._head_bytes = 0
        self.is_webhook = False

    def _enter(self, phase: Phase) -> None:
        self.phase = phase
        self.since = self.loop.time()

    def _answer(self, status: int, text: str) -> None:
        body = f"{text}\n".encode()
        head = b"content-type: text/plain; charset=utf-8\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(body)
        self.transport.write(STATUS_LINE[status] + head + body)
        self.transport.close()


def limited_protocol(limits: ConnectionLimits) -> type[LimitedProtocol]:
    """Return the protocol class for uvicorn with these limits."""
    return type("LimitedProtocol", (LimitedProtocol,), {"limits": limits})
