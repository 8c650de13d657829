"""The small chart in a message is a valid PNG for channels that accept one, and delays no message."""

from __future__ import annotations

import asyncio
import base64
import json
import struct
import zlib
from datetime import datetime, timedelta
from email import message_from_bytes
from pathlib import Path
from typing import Any

import httpx
import pytest
import respx

from remediator.clients.endpoints import Endpoint
from remediator.clients.prometheus.client import Prometheus
from remediator.errors import BadAnswer
from remediator.extensions.notifiers.base import PermanentFailure
from remediator.reporting import charts
from remediator.reporting.alert_series import last_hour_png
from tests.extensions.notifiers.test_notifiers import KINDS, settings
from tests.support.guard_history import NOON
from tests.support.servers import DEADLINE, free_port
from tests.support.servers.receivers import receiver
from tests.support.web_service import WebService

LINE = [(NOON + timedelta(minutes=minute), 0.5 + minute / 100) for minute in range(40)]


def _pixels(picture: bytes) -> list[bytes]:
    """Decode a PNG and return its rows of pixels."""
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


def test_chart_is_a_small_valid_png() -> None:
    """The chart has the line and the limit. NaN, a single point and no data are valid input."""
    rows = _pixels(charts.line_chart_png([LINE], NOON, NOON + timedelta(hours=1), 0.85))
    line = [(row.index(4), number) for number, row in enumerate(rows) if 4 in row]
    assert line == sorted(line, key=lambda dot: -dot[0]), "higher is later"
    assert any(row.count(3) > 100 for row in rows), "the limit"
    for odd in ([], [[]], [[(NOON, float("nan"))]], [[(NOON, 1.0)]], [[(NOON, 1e300), (NOON, -1e300)]]):
        assert len(charts.line_chart_png(odd, NOON, NOON, None)) < 4000


async def test_channels_that_accept_charts_get_one(web: WebService) -> None:
    """The webhook gets the chart. For Google Chat, no chart is drawn."""
    drawn = charts.line_chart_png([LINE], NOON, NOON + timedelta(hours=1), 0.85)
    asked_for: list[str] = []

    async def chart(run_id: str, now: datetime) -> bytes:
        asked_for.append(run_id)
        return drawn

    for kind, taken in (("webhook", True), ("teams", True), ("google_chat", False)):
        asked = await web.request_approval()
        with receiver() as chat:
            post = web.post({"chat": {"kind": kind, "url": chat.url}}, "chat")
            post.chart = chart
            await web.deliver(post)
            await post.aclose()
        assert (base64.b64encode(drawn) in chat.received[0].body) is taken, kind
        assert (asked.run_id in asked_for) is taken


async def test_no_chart_without_prometheus_or_run(web: WebService) -> None:
    """If Prometheus does not answer or the run does not exist, there is no chart and no error."""
    gone = Prometheus(Endpoint(url=f"http://127.0.0.1:{free_port()}"))
    asked = await web.request_approval()
    for run_id in (asked.run_id, "run-none"):
        assert await last_hour_png(gone, web.context.store, run_id, NOON) == b""
    await gone.aclose()


PICTURE = charts.line_chart_png([LINE], NOON, NOON + timedelta(hours=1), 0.85)
WORDS = "The alert's expression over the last hour"


def _parts(request: httpx.Request) -> dict[str, tuple[bytes, str]]:
    """Return the parts of a multipart body by name: content and media type."""
    head = f"Content-Type: {request.headers['content-type']}\r\n\r\n".encode()
    found = {}
    for part in message_from_bytes(head + request.content).walk():
        if not part.is_multipart():
            content = part.get_payload(decode=True)
            assert isinstance(content, bytes)
            name = part.get_param("name", header="content-disposition")
            found[str(name)] = (content, part.get_content_type())
    return found


async def test_slack_shows_the_chart_in_the_thread(tmp_path: Path) -> None:
    """The service requests an upload URL, sends the bytes without the token, and adds the file to the thread."""
    slack = KINDS["slack"](settings("slack", tmp_path))
    place = "https://files.slack.com/upload/v1/abc"
    async with respx.mock as router:
        named = {"ok": True, "upload_url": place, "file_id": "F1"}
        router.post("https://slack.com/api/files.getUploadURLExternal").respond(json=named)
        router.post(place).respond(200, text=f"OK - {len(PICTURE)}")
        router.post("https://slack.com/api/files.completeUploadExternal").respond(json={"ok": True})
        await slack.add_chart(PICTURE, {"channel": "C1", "ts": "1.2"})
        asked, put, shown = (call.request for call in router.calls)
    await slack.aclose()
    assert asked.headers["content-type"] == shown.headers["content-type"] == "application/x-www-form-urlencoded"
    assert dict(httpx.QueryParams(asked.content.decode())) == {
        "filename": "chart.png",
        "length": str(len(PICTURE)),
        "alt_txt": WORDS,
    }
    assert put.content == PICTURE and "authorization" not in put.headers
    form = dict(httpx.QueryParams(shown.content.decode()))
    assert (form["channel_id"], form["thread_ts"]) == ("C1", "1.2")
    assert json.loads(form["files"]) == [{"id": "F1", "title": WORDS}]


@pytest.mark.parametrize(
    "place", ["https://elsewhere.example/x", "http://files.slack.com/x", "https://u@slack.com/", ""]
)
async def test_slack_upload_url_must_be_slack(tmp_path: Path, place: str) -> None:
    """An upload URL on another server is refused."""
    slack = KINDS["slack"](settings("slack", tmp_path))
    async with respx.mock as router:
        router.post("https://slack.com/api/files.getUploadURLExternal").respond(json={"ok": True, "upload_url": place})
        with pytest.raises(BadAnswer, match="not on a host of Slack"):
            await slack.add_chart(PICTURE, {"channel": "C1", "ts": "1.2"})
        assert len(router.calls) == 1
    await slack.aclose()


async def test_slack_without_the_scope_is_an_error(tmp_path: Path) -> None:
    """The error names the missing scope as Slack does."""
    slack = KINDS["slack"](settings("slack", tmp_path))
    async with respx.mock as router:
        router.route().respond(json={"ok": False, "error": "missing_scope", "needed": "files:write"})
        with pytest.raises(PermanentFailure, match="missing_scope"):
            await slack.add_chart(PICTURE, {"channel": "C1", "ts": "1.2"})
    await slack.aclose()


async def test_discord_attaches_the_chart(tmp_path: Path) -> None:
    """The chart changes only the attachments of the message, because its embed may already show the result."""
    discord = KINDS["discord"](settings("discord", tmp_path))
    async with respx.mock as router:
        router.route().respond(json={"id": "9"})
        await discord.add_chart(PICTURE, {"message": "9"})
        [request] = [call.request for call in router.calls]
    await discord.aclose()
    assert request.method == "PATCH" and request.url.path.endswith("/messages/9")
    parts = _parts(request)
    assert parts["files[0]"] == (PICTURE, "image/png")
    told = json.loads(parts["payload_json"][0])
    assert told["attachments"] == [{"id": 0, "filename": "chart.png", "description": WORDS}]
    assert told["allowed_mentions"] == {"parse": []} and "embeds" not in told


async def test_telegram_sends_the_chart_as_a_silent_reply(tmp_path: Path) -> None:
    """The message with its links stays unchanged. The photo is a silent reply to it."""
    telegram = KINDS["telegram"](settings("telegram", tmp_path))
    async with respx.mock as router:
        router.route().respond(json={"ok": True, "result": {"message_id": 8}})
        await telegram.add_chart(PICTURE, {"message": 7})
        [request] = [call.request for call in router.calls]
    await telegram.aclose()
    assert request.url.path.endswith("/sendPhoto")
    parts = _parts(request)
    assert parts["photo"] == (PICTURE, "image/png")
    assert parts["caption"][0].decode() == WORDS and parts["disable_notification"][0] == b"true"
    assert json.loads(parts["reply_parameters"][0]) == {"message_id": 7, "allow_sending_without_reply": True}


def _telegram(folder: Path, url: str) -> dict[str, Any]:
    return {"kind": "telegram", **settings("telegram", folder), "api": url}


async def _charts_over(post: Any) -> None:
    async with asyncio.timeout(DEADLINE):
        while post._charts:
            await asyncio.gather(*post._charts)


@pytest.mark.parametrize(("status", "told"), [(200, '"error":""'), (500, "not delivered: telegram answered 500")])
async def test_message_is_sent_before_its_chart(web: WebService, tmp_path: Path, status: int, told: str) -> None:
    """The message is recorded as sent before the chart is sent. A refused chart is only recorded."""

    async def chart(run_id: str, now: datetime) -> bytes:
        sent = [item.status for item in await web.outbox(run_id)]
        assert sent == ["sent"]
        return PICTURE

    asked = await web.request_approval()
    with receiver() as chat:
        chat.answers = [(200, {}, b'{"ok": true, "result": {"message_id": 7}}'), (status, {}, b"{}")]
        post = web.post({"chat": _telegram(tmp_path, chat.url)}, "chat")
        post.chart = chart
        await web.deliver(post)
        await _charts_over(post)
        await post.aclose()
    assert [item.path.rpartition("/")[2] for item in chat.received] == ["sendMessage", "sendPhoto"]
    [message] = await web.outbox(asked.run_id)
    assert (message.status, message.attempts) == ("sent", 1)
    log = await web.audit_text()
    assert log.count('"kind":"message.chart"') == 1 and told in log


async def test_slow_chart_delays_no_message(web: WebService, tmp_path: Path) -> None:
    """The next message of the channel is sent while the chart of the first is pending."""
    never = asyncio.Event()

    async def chart(run_id: str, now: datetime) -> bytes:
        await never.wait()
        return b""

    with receiver() as chat:
        chat.answers = [(200, {}, b'{"ok": true, "result": {"message_id": 7}}')]
        post = web.post({"chat": _telegram(tmp_path, chat.url)}, "chat")
        post.chart = chart
        for _ in range(2):
            await web.request_approval()
            await web.deliver(post)
            web.clock.time += timedelta(seconds=10)
        assert len(chat.received) == 2 and len(post._charts) == 2
        await post.aclose()
    assert not post._charts


@pytest.mark.parametrize(
    ("low", "high", "wanted"),
    [(0.0, 1.0, ["0", "1"]), (97.4, 97.42, ["97.4", "97.42"]), (0.0, 1.5e9, ["0", "1.5e+09"]), (0.5, 0.5, ["0.5"] * 2)],
)
def test_axis_ends_have_different_labels(low: float, high: float, wanted: list[str]) -> None:
    """The labels are exact enough to differ even if the values differ little."""
    assert [charts.tick_label(value, high - low) for value in (low, high)] == wanted
