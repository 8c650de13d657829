"""Limits before authentication: half-open requests, large headers, slow bodies and many connections."""

from __future__ import annotations

import asyncio
import http.client
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from remediator.web import connections
from remediator.web.listener import server_config
from tests.support.servers import DEADLINE, require
from tests.support.servers.remediator import Remediator
from tests.support.web_service import INVENTORY

pytestmark = pytest.mark.promise(14)


class Small(Remediator):
    """A remediator that may open only 512 files."""

    def command(self) -> list[str]:
        return [require("prlimit"), "--nofile=512:512", *super().command()]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Small]:
    """Return a running service."""
    server = Small(tmp_path_factory.mktemp("small"))
    server.inventory["services"] = INVENTORY["services"]
    server.start()
    yield server
    server.stop()


def connect(service: Small, sent: bytes = b"", source: str = "127.0.0.1") -> socket.socket:
    """Open a connection from an address of this host, and send the start of a request."""
    opened = socket.create_connection(("127.0.0.1", service.port), timeout=30, source_address=(source, 0))
    opened.sendall(sent)
    return opened


def test_half_open_requests_from_many_addresses_do_not_block_the_webhook(service: Small) -> None:
    """With more half-open connections than descriptors, notifications are still acknowledged."""
    with ExitStack() as stack:
        for number in range(700):
            half = b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: "
            stack.callback(connect(service, half, f"127.0.{number % 7}.{1 + number % 200}").close)
        for _ in range(5):
            assert service.post(service.notification("firing", alertname="Other"))[0] == 200


def test_large_headers_are_refused_and_take_no_memory(service: Small) -> None:
    """Headers of 64 MiB end the connection at once."""
    before = service.memory()
    opened = connect(service, b"GET /livez HTTP/1.1\r\nHost: localhost\r\n")
    chunk = b"".join(b"X-%d: %s\r\n" % (number, b"a" * 1000) for number in range(1000))
    try:
        for _ in range(64):
            opened.sendall(chunk)
    except OSError:
        pass  # the service has closed the connection
    finally:
        opened.close()
    assert service.memory() - before < 16 * 1024 * 1024
    assert service.get("/readyz")["ready"]


def test_requests_that_do_not_wait_for_answers_take_no_memory(service: Small) -> None:
    """A client that sends thousands of requests and reads no answer is disconnected."""
    service.get("/api/v1/openapi.json")
    before = service.memory()
    with ExitStack() as stack:
        for _ in range(4):
            opened = stack.enter_context(connect(service))
            opened.settimeout(5)
            with suppress(OSError):  # the service has closed the connection
                for _ in range(50):
                    opened.sendall(b"GET /api/v1/openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 200)
        assert service.get("/readyz")["ready"]
        assert service.memory() - before < 16 * 1024 * 1024
    assert 'remediator_refused_connections_total{reason="pipelined"}' in service.metrics()


def test_a_few_requests_on_one_connection_are_answered_in_order(service: Small) -> None:
    """Pipelined requests, which HTTP/1.1 allows, are answered in order."""
    with connect(service, b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n" * 8) as opened:
        seen = b""
        while seen.count(b"HTTP/1.1 200 OK") < 8:
            more = opened.recv(65_536)
            assert more, seen
            seen += more


@pytest.mark.parametrize("header", [b"X: " + b"a" * 40_000, b"\r\n".join(b"X-%d: y" % i for i in range(200))])
def test_too_large_or_too_many_headers_get_431(service: Small, header: bytes) -> None:
    """The answer 431 names the exceeded limit."""
    with connect(service, b"GET /livez HTTP/1.1\r\nHost: localhost\r\n" + header + b"\r\n\r\n") as opened:
        answer = http.client.HTTPResponse(opened)
        answer.begin()
        assert answer.status == 431


@pytest.mark.parametrize("path", ["/sign-in", "/api/v1/stops"])
def test_a_body_that_never_arrives_ends_the_connection(service: Small, path: str) -> None:
    """Every endpoint has a deadline for the body."""
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n"
    with connect(service, head.encode()) as opened:
        opened.settimeout(connections.BODY_SECONDS + DEADLINE)
        while opened.recv(4096):
            pass


@pytest.mark.promise(1)
async def test_a_notification_that_arrives_too_slowly_gets_503(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow notification gets 503, which Alertmanager repeats. After 408 it would drop the notification."""
    monkeypatch.setattr(connections, "WEBHOOK_BODY_SECONDS", 0.1)
    broken_off = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        broken_off.set()

    refused: list[str] = []
    limits = connections.ConnectionLimits([b"/api/v1/alerts"], on_refused=refused.append)
    sock = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(server_config(app, limits))
    serving = asyncio.create_task(server.serve([sock]))
    reader, writer = await asyncio.open_connection(*sock.getsockname())
    writer.write(b"POST /api/v1/alerts HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
    async with asyncio.timeout(DEADLINE):
        answer = await reader.read()
        await broken_off.wait()
        server.should_exit = True
        await serving
    writer.close()
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"send it again" in answer
    assert refused == ["body_late"]


def test_headers_that_never_end_get_408(service: Small) -> None:
    """Headers that do not end within a short deadline get 408."""
    with connect(service, b"POST /api/v1/alerts HTTP/1.1\r\nHost: x\r\n") as opened:
        opened.settimeout(connections.HEADER_SECONDS + 20)
        assert b"408" in opened.recv(4096)


def test_refused_connections_are_counted(service: Small) -> None:
    """Metrics count refused connections by reason, so that an attack is visible."""
    assert "remediator_refused_connections_total" in service.metrics()


def test_the_soft_limit_of_descriptors_is_raised(tmp_path: Path) -> None:
    """A start with a soft limit of 256 descriptors raises it to the hard limit."""
    code = "from remediator.web.connections import raise_descriptor_limit; print(raise_descriptor_limit())"
    argv = [require("prlimit"), "--nofile=256:2048", *Remediator(tmp_path).command()[:1], "-c", code]
    done = subprocess.run(
        argv, capture_output=True, text=True, check=True, env=dict(Remediator(tmp_path).environment())
    )
    assert done.stdout.strip() == "2048"


@pytest.mark.parametrize(
    "sent",
    [
        b"POST /api/v1/alerts HTTP/1.1\r\nHost: localhost\r\n"
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /api/v1/alerts HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        b"POST /api/v1/alerts HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"GET /runs HTTP/1.1\r\nHost: evil\nInjected: 1\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"CONNECT x:1 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ],
    ids=["length and chunks", "two lengths", "negative length", "bare newline", "HTTP/2", "CONNECT"],
)
def test_requests_that_a_proxy_may_read_differently_are_refused(service: Small, sent: bytes) -> None:
    """Ambiguous requests are refused, so no request can hide another one."""
    with connect(service, sent) as opened:
        assert opened.recv(100).startswith(b"HTTP/1.1 400")


def test_open_event_streams_do_not_block_the_webhook(service: Small) -> None:
    """Many open pages of a browser or an attacker do not block notifications."""
    with ExitStack() as stack:
        for number in range(300):
            opened = connect(service, b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n", f"127.0.8.{1 + number % 200}")
            stack.callback(opened.close)
        assert service.post(service.notification("firing", alertname="Other"))[0] == 200
