"""Host names are resolved within a timeout, outside of the event loop and of the threads of the store."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from remediator.runtime import event_loop
from remediator.runtime.event_loop import ServiceLoop

pytestmark = [pytest.mark.promise(14), pytest.mark.unit]


def run(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run work on the loop of the service."""
    with asyncio.Runner(loop_factory=ServiceLoop) as runner:
        runner.run(work())


async def resolve(name: str = "prometheus.example.com") -> list[Any]:
    return await asyncio.get_running_loop().getaddrinfo(name, 9090, type=socket.SOCK_STREAM)


@pytest.fixture
def hang(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Replace the resolver by one that hangs until the test ends."""
    monkeypatch.setattr(event_loop, "TIMEOUT", 0.1)
    released = threading.Event()

    def hanging(key: Any) -> Any:
        released.wait(120)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 9090))]

    monkeypatch.setattr(event_loop, "_resolve", hanging)
    yield released
    released.set()


def test_a_hung_resolver_times_out_and_uses_no_other_thread(hang: threading.Event) -> None:
    """If the resolver hangs, each request for a name fails in time, and other threads stay free."""

    async def work() -> None:
        names = [f"name-{number}.example.com" for number in range(event_loop.THREADS * 2)]
        found = await asyncio.gather(*(resolve(name) for name in names), return_exceptions=True)
        assert all(isinstance(error, socket.gaierror) for error in found)
        assert await asyncio.to_thread(lambda: "free") == "free"
        hang.set()

    run(work)


def test_concurrent_requests_for_a_name_send_one_query(hang: threading.Event, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty concurrent requests for one name send one query to the resolver."""
    asked: list[Any] = []
    inner = event_loop._resolve
    monkeypatch.setattr(event_loop, "_resolve", lambda key: (asked.append(key), inner(key))[1])

    async def work() -> None:
        await asyncio.gather(*(resolve() for _ in range(20)), return_exceptions=True)
        hang.set()

    run(work)
    assert len(asked) == 1


def test_an_old_answer_is_used_while_the_resolver_does_not_answer(
    hang: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the resolver does not answer, the last known address of the name is used."""
    monkeypatch.setattr(event_loop, "FRESH", 0.0)

    async def work() -> None:
        hang.set()
        first = await resolve()
        hang.clear()
        assert await resolve() == first
        hang.set()

    run(work)


def test_a_name_that_does_not_exist_is_an_error_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown name raises the error of the resolver without a wait for the timeout."""

    def unknown(key: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(event_loop, "_resolve", unknown)

    async def work() -> None:
        with pytest.raises(socket.gaierror, match="not known"):
            await resolve()

    run(work)


def test_an_address_needs_no_resolver(hang: threading.Event) -> None:
    """An IPv4 or IPv6 address is accepted while the resolver hangs."""

    async def work() -> None:
        assert (await resolve("127.0.0.1"))[0][4] == ("127.0.0.1", 9090)
        assert (await resolve("::1"))[0][4][0] == "::1"

    run(work)
