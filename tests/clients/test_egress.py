"""The proxy for outgoing HTTP: which hosts it serves, and which requests reach it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from remediator.clients import egress
from remediator.clients.egress import Egress
from remediator.clients.endpoints import Endpoint
from remediator.clients.http import HttpClient

PROXY = "http://proxy.example.com:3128"
NO_PROXY = (".internal.example.com", "prometheus", "10.0.0.0/8", "fd00::/8", "192.0.2.7")


@pytest.mark.parametrize(
    "url",
    [
        "http://prometheus:9090",
        "https://a.internal.example.com",
        "https://INTERNAL.example.com.",
        "http://10.1.2.3:9093",
        "http://[fd00::1]:9093",
        "http://192.0.2.7",
        "http://127.0.0.1:9090",
        "http://[::1]:9090",
        "http://localhost:9090",
    ],
)
def test_hosts_of_no_proxy_and_loopback_are_reached_directly(url: str) -> None:
    """A host in no_proxy, and every loopback address, is reached without the proxy."""
    assert Egress(PROXY, NO_PROXY).proxy_for(url) is None


@pytest.mark.parametrize(
    "url", ["https://hooks.slack.com/x", "https://notinternal.example.com", "http://192.0.2.8", "http://my-prometheus"]
)
def test_other_hosts_go_through_the_proxy(url: str) -> None:
    """A host that only looks like an entry of no_proxy is reached through the proxy."""
    assert Egress(PROXY, NO_PROXY).proxy_for(url) == PROXY


def test_a_star_is_all_hosts_and_no_proxy_is_none() -> None:
    """With ``*`` in no_proxy, or without a proxy in the settings, every host is reached directly."""
    assert Egress(PROXY, ("*",)).proxy_for("https://hooks.slack.com") is None
    assert Egress().proxy_for("https://hooks.slack.com") is None


@pytest.fixture
def restore() -> Iterator[None]:
    yield
    egress.configure(Egress())


@pytest.mark.usefixtures("restore")
async def test_a_request_is_sent_to_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The proxy of the settings is used, not the proxy of the environment."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    seen: list[bytes] = []

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(proxy, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    egress.configure(Egress(f"http://127.0.0.1:{port}"))
    client = HttpClient(Endpoint(url="http://hooks.example.com"))
    answer = await client.get("/services/x")
    await client.aclose()
    server.close()
    assert answer.status == 200
    assert seen[0].startswith(b"GET http://hooks.example.com/services/x HTTP/1.1")
