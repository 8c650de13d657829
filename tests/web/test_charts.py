"""The small chart in a message: a real PNG, for channels that take one; and no message waits for its picture."""

from __future__ import annotations

import base64
import struct
import zlib
from datetime import datetime, timedelta

from remediator import png
from remediator.clients.prometheus import Prometheus
from remediator.endpoints import Endpoint
from remediator.measuring import last_hour
from tests.guards.house import NOON
from tests.servers import free_port
from tests.servers.receivers import receiver
from tests.web.room import Room

LINE = [(NOON + timedelta(minutes=minute), 0.5 + minute / 100) for minute in range(40)]


def _pixels(picture: bytes) -> list[bytes]:
    """The rows of dots, chunk by chunk, as any reader of PNG takes them."""
    assert picture[:8] == b"\x89PNG\r\n\x1a\n"
    at, chunks = 8, {}
    while at < len(picture):
        (length,) = struct.unpack(">I", picture[at : at + 4])
        kind, data = picture[at + 4 : at + 8], picture[at + 8 : at + 8 + length]
        assert struct.unpack(">I", picture[at + 8 + length : at + 12 + length])[0] == zlib.crc32(kind + data)
        chunks[kind], at = data, at + 12 + length
    width, height = struct.unpack(">II", chunks[b"IHDR"][:8])
    raw = zlib.decompress(chunks[b"IDAT"])
    assert len(raw) == height * (width + 1)
    return [raw[row * (width + 1) + 1 : (row + 1) * (width + 1)] for row in range(height)]


def test_a_chart_is_a_small_whole_png() -> None:
    """The line rises, the limit crosses it; not-a-numbers, one point and nothing at all are drawn too."""
    rows = _pixels(png.line_chart([LINE], NOON, NOON + timedelta(hours=1), 0.85))
    line = [(row.index(4), number) for number, row in enumerate(rows) if 4 in row]
    assert line == sorted(line, key=lambda dot: -dot[0]), "higher is later"
    assert any(row.count(3) > 100 for row in rows), "the limit"
    for odd in ([], [[]], [[(NOON, float("nan"))]], [[(NOON, 1.0)]], [[(NOON, 1e300), (NOON, -1e300)]]):
        assert len(png.line_chart(odd, NOON, NOON, None)) < 4000


async def test_requests_carry_it_where_a_channel_takes_one(here: Room) -> None:
    """To the webhook with its picture, to Mattermost without; no answer of Prometheus costs only the picture."""
    drawn = png.line_chart([LINE], NOON, NOON + timedelta(hours=1), 0.85)
    asked_for: list[str] = []

    async def chart(run_id: str, now: datetime) -> bytes:
        asked_for.append(run_id)
        return drawn

    for kind, taken in (("webhook", True), ("teams", True), ("mattermost", False)):
        asked = await here.asks()
        with receiver() as chat:
            post = here.post({"chat": {"kind": kind, "url": chat.url}}, "chat")
            post.chart = chart
            await here.deliver(post)
            await post.aclose()
        assert (base64.b64encode(drawn) in chat.received[0].body) is taken, kind
        assert (asked.run_id in asked_for) is taken


async def test_no_message_waits_for_its_picture(here: Room) -> None:
    """Nobody there, no such run: none, and no error."""
    gone = Prometheus(Endpoint(url=f"http://127.0.0.1:{free_port()}"))
    asked = await here.asks()
    for run_id in (asked.run_id, "run-none"):
        assert await last_hour(gone, here.engine.store, run_id, NOON) == b""
    await gone.aclose()
