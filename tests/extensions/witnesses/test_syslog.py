"""Checkpoints in syslog."""

from __future__ import annotations

import asyncio
import re
import socket
from datetime import UTC, datetime
from pathlib import Path

import pytest

from remediator.audit import BadNote, checkpoint
from remediator.extensions.witnesses.base import WitnessError
from remediator.extensions.witnesses.syslog import SyslogWitness
from tests.support.servers import DEADLINE
from tests.support.witness_suite import NOTES

pytestmark = pytest.mark.promise(9)

_RFC5424 = re.compile(r'<109>1 2026-03-01T03:00:00\.000000Z \S+ remediator - checkpoint - \{"checkpoint":".*"\}')


class _Still:
    def now(self) -> datetime:
        return datetime(2026, 3, 1, 3, 0, tzinfo=UTC)

    async def sleep(self, seconds: float) -> None:
        raise NotImplementedError


async def _receive(server: socket.socket) -> str:
    return (await asyncio.to_thread(server.recv, 65536)).decode()


async def test_a_datagram_contains_the_note() -> None:
    """The UDP datagram is one line in the format of RFC 5424, from which the note can be parsed."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(60)
        address = f"udp://127.0.0.1:{server.getsockname()[1]}"

        assert await SyslogWitness(address, _Still()).publish(NOTES[3]) == address
        line = await _receive(server)

    assert _RFC5424.fullmatch(line)
    assert list(checkpoint.find_notes(f"before\n{line}\nafter\n")) == [NOTES[3]]


async def test_a_stream_counts_its_bytes() -> None:
    """On TCP, the length comes before the line (RFC 6587), so the line can contain any character."""
    received: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.set_result(await reader.read())
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        await SyslogWitness(f"tcp://127.0.0.1:{port}", _Still()).publish(NOTES[3])
        length, _, line = (await asyncio.wait_for(received, DEADLINE)).partition(b" ")

    assert int(length) == len(line) and _RFC5424.fullmatch(line.decode())


async def test_a_local_daemon_gets_the_older_format(tmp_path: Path) -> None:
    """A local socket gets the older format of /dev/log."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(tmp_path / "log"))
        server.settimeout(60)
        await SyslogWitness(f"unix:{tmp_path / 'log'}", _Still()).publish(NOTES[3])
        line = await _receive(server)

    assert line.startswith("<109>Mar  1 03:00:00 remediator: {")
    assert list(checkpoint.find_notes(line)) == [NOTES[3]]


async def test_the_witness_reports_what_it_cannot_do(tmp_path: Path) -> None:
    """The witness cannot read checkpoints. A text that is not a checkpoint, a failed request and an invalid address are
    errors."""
    notary = SyslogWitness(f"unix:{tmp_path / 'nobody'}")

    with pytest.raises(WitnessError, match="cannot read checkpoints from"):
        await notary.fetch()
    with pytest.raises(WitnessError, match="cannot send to"):
        await notary.publish(NOTES[3])
    with pytest.raises(BadNote):
        await notary.publish("text\n")
    for address in ("", "host:514", "http://host", "udp://", "unix:"):
        with pytest.raises(WitnessError):
            SyslogWitness(address)
