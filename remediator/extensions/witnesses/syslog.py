"""``syslog``: checkpoints as lines to a log server.

The lines cannot be read back. To verify, give the file of the log server to
``remediator audit verify --checkpoints FILE``.
"""

from __future__ import annotations

import asyncio
import socket
from urllib.parse import urlsplit

import msgspec

from remediator.core.clock import Clock, SystemClock, rfc3339
from remediator.extensions.witnesses.base import Witness, WitnessError, parse_note

PRIORITY = 13 * 8 + 5
"""Facility 13 (log audit), severity 5 (notice)."""
_TIMEOUT = 5.0


class SyslogWitness(Witness):
    """Sends each note as one line of JSON, ``{"checkpoint": …}``. Sending it twice is harmless.

    Args:
        address: ``udp://host:514``, ``tcp://host:601`` (RFC 5424, octet counting on TCP) or ``unix:/dev/log``.
        clock: clock for the timestamp of the line.
    """

    kind = "syslog"

    def __init__(self, address: str, clock: Clock | None = None) -> None:
        parts = urlsplit(address)
        if parts.scheme not in ("udp", "tcp", "unix") or not (parts.path if parts.scheme == "unix" else parts.hostname):
            raise WitnessError(f"invalid address {address!r}: expected udp://HOST:PORT, tcp://HOST:PORT or unix:/PATH")
        self._address = address
        self._scheme = parts.scheme
        self._path = parts.path
        self._host, self._port = parts.hostname, parts.port or 514
        self._clock = clock or SystemClock()

    async def publish(self, note: str) -> str:
        """See :meth:`Witness.publish`. Here, *stored* means that the line was sent."""
        parse_note(note)
        body = msgspec.json.encode({"checkpoint": note})
        try:
            await asyncio.to_thread(self._send, body)
        except OSError as error:
            raise WitnessError(f"cannot send to {self._address}: {error}") from error
        return self._address

    async def fetch(self) -> list[str]:
        """Always raise: a log server cannot be read back."""
        raise WitnessError(
            "cannot read checkpoints from a log server; give its file to audit verify --checkpoints FILE"
        )

    def _send(self, body: bytes) -> None:
        if self._scheme == "unix":
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as local:
                local.settimeout(_TIMEOUT)
                local.connect(self._path)
                # local daemons expect the older format (RFC 3164)
                start = f"<{PRIORITY}>{self._clock.now().strftime('%b %e %H:%M:%S')} remediator: "
                local.send(start.encode() + body)
        elif self._scheme == "tcp":
            with socket.create_connection((self._host, self._port), _TIMEOUT) as stream:
                line = self._line(body)
                stream.sendall(b"%d %s" % (len(line), line))
                stream.shutdown(socket.SHUT_WR)
        else:
            family, _, _, _, place = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_DGRAM)[0]
            with socket.socket(family, socket.SOCK_DGRAM) as datagram:
                datagram.settimeout(_TIMEOUT)
                datagram.sendto(self._line(body), place)

    def _line(self, body: bytes) -> bytes:
        host = socket.gethostname() or "-"
        start = f"<{PRIORITY}>1 {rfc3339(self._clock.now())} {host} remediator - checkpoint - "
        return start.encode() + body
