"""Checks against real servers, with the three answers ok, fail and unknown."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from remediator.clients.endpoints import Endpoint
from remediator.clients.prometheus.client import Prometheus as Client
from remediator.extensions.checks.base import Check, CheckAnswer, Evidence
from remediator.extensions.clientset import ClientSet
from remediator.extensions.registry import Registry
from remediator.playbooks.inventory import Inventory, Service
from tests.support.action_runner import service
from tests.support.fake_servers import peer, reply
from tests.support.servers import free_port
from tests.support.servers.prometheus import Prometheus
from tests.support.servers.redis import MakeRedis, Redis

CHECKS: dict[str, Check] = Registry().make_checks(ClientSet())


async def look(check: Check, target: Service, **given: Any) -> Evidence:
    return await check.ask(target, check.Parameters.model_validate(given))


async def test_http_ok_accepts_any_2xx() -> None:
    """2xx is ok.

    Another status, no server, and an answer that is not HTTP fail. Without an address, the answer is unknown.
    """
    for answer, expected in (
        (reply(200, b"fine"), CheckAnswer.OK),
        (reply(503, b'{"missing": ["redis"]}'), CheckAnswer.FAIL),
        (nonsense, CheckAnswer.FAIL),
    ):
        async with peer(answer) as web:
            app = service("app", http={"url": web.url})
            assert (await look(CHECKS["http.ok"], app, path="ready", timeout="1s")).answer is expected
    away = service("app", http={"url": f"http://127.0.0.1:{free_port()}"})
    assert (await look(CHECKS["http.ok"], away)).answer is CheckAnswer.FAIL
    assert (await look(CHECKS["http.ok"], service("app"))).answer is CheckAnswer.UNKNOWN


async def nonsense(_: bytes, writer: Any) -> None:
    writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")


async def test_redis_write_test(make_redis: MakeRedis) -> None:
    """``redis.write_test`` fails on a full Redis, although it answers PING."""
    server = make_redis("maxmemory 100kb", "maxmemory-policy noeviction")
    target = service("redis", redis={"host": "127.0.0.1", "port": server.port})

    assert (await look(CHECKS["redis.ping"], target)).answer is CheckAnswer.OK
    assert (await look(CHECKS["redis.write_test"], target)).answer is CheckAnswer.FAIL
    server.ask("CONFIG", "SET", "maxmemory", "0")
    assert (await look(CHECKS["redis.write_test"], target)).answer is CheckAnswer.OK


async def test_tcp_connect_tells_a_full_queue_from_a_closed_port() -> None:
    """If a process does not accept connections, the kernel does so until its queue is full; later connections get no
    answer."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listening, ExitStack() as waiting:
        port = listening.getsockname()[1]
        hung = service("shop", http={"url": f"http://127.0.0.1:{port}"})
        for _ in range(3):
            client = waiting.enter_context(socket.socket())
            client.setblocking(False)
            with suppress(BlockingIOError):
                client.connect(("127.0.0.1", port))
        found = await look(CHECKS["tcp.connect"], hung, endpoint="http", timeout="300ms")
        assert (found.answer, found.facts["answer"]) == (CheckAnswer.FAIL, "silent")
    found = await look(CHECKS["tcp.connect"], hung, endpoint="http")
    assert (found.answer, found.facts["answer"]) == (CheckAnswer.FAIL, "refused")


async def test_tcp_connect_is_ok_if_the_port_is_open(redis_server: Redis) -> None:
    """An open port is ok, a closed port fails, and without an address the answer is unknown."""
    there = service("redis", redis={"host": "127.0.0.1", "port": redis_server.port})
    away = service("redis", redis={"host": "127.0.0.1", "port": free_port()})

    assert (await look(CHECKS["tcp.connect"], there, endpoint="redis")).answer is CheckAnswer.OK
    assert (await look(CHECKS["tcp.connect"], away, endpoint="redis")).answer is CheckAnswer.FAIL
    assert (await look(CHECKS["tcp.connect"], away, endpoint="http")).answer is CheckAnswer.UNKNOWN


@pytest.mark.parametrize(
    ("given", "answer"),
    [
        ({"field": "connected_clients", "maximum": 100}, CheckAnswer.OK),
        ({"field": "connected_clients", "minimum": 100}, CheckAnswer.FAIL),
        ({"field": "role", "equals": "master"}, CheckAnswer.OK),
        ({"field": "role", "equals": "slave"}, CheckAnswer.FAIL),
        ({"field": "no_such_field", "maximum": 1}, CheckAnswer.UNKNOWN),
        ({"field": "role", "maximum": 1}, CheckAnswer.UNKNOWN),
    ],
)
async def test_redis_info_compares_a_field(make_redis: MakeRedis, given: dict[str, Any], answer: CheckAnswer) -> None:
    """The check compares a number or a text of INFO; a missing field is unknown."""
    server = make_redis()
    target = service("redis", redis={"host": "127.0.0.1", "port": server.port})

    assert (await look(CHECKS["redis.info"], target, **given)).answer is answer


async def test_disk_usage_measures_the_filesystem_of_the_folder(tmp_path: Path) -> None:
    """The check measures the filesystem that contains the folder."""
    target = service("redis", disk={"path": str(tmp_path), "full_percent": 99})
    found = await look(CHECKS["disk.usage"], target)
    percent = found.facts["percent"]

    assert found.answer is CheckAnswer.OK
    assert (await look(CHECKS["disk.usage"], target, max_percent=max(int(percent) - 1, 1))).answer is CheckAnswer.FAIL
    gone = service("redis", disk={"path": str(tmp_path / "gone")})
    assert (await look(CHECKS["disk.usage"], gone)).answer is CheckAnswer.UNKNOWN
    assert (await look(CHECKS["disk.usage"], service("redis"))).answer is CheckAnswer.UNKNOWN


async def test_dependencies_ok_checks_indirect_dependencies_too(make_redis: MakeRedis) -> None:
    """All dependencies are checked, also indirect ones; an unreachable dependency is unknown."""
    server = make_redis()
    binding = {"kind": "supervisor", "url": "unix:///nowhere/s.sock", "program": "x"}
    inventory = Inventory.model_validate(
        {
            "apiVersion": "remediator/v1",
            "kind": "Inventory",
            "services": {
                "redis": {"platform": binding, "redis": {"host": "127.0.0.1", "port": server.port}},
                "app": {"platform": binding, "depends_on": ["redis"]},
                "shop": {"platform": binding, "depends_on": ["app"]},
            },
        }
    )
    check = Registry().make_checks(ClientSet(inventory=lambda: inventory))["dependencies.ok"]

    assert (await look(check, inventory.service("app"))).answer is CheckAnswer.OK
    assert (await look(check, inventory.service("redis"))).answer is CheckAnswer.OK, "it needs nothing"
    assert (await look(check, inventory.service("shop"))).answer is CheckAnswer.UNKNOWN, "supervisord cannot be asked"
    server.kill()
    found = await look(check, inventory.service("app"))
    assert (found.answer, found.facts["redis"]["status"]) == (CheckAnswer.FAIL, "fail")


@pytest.mark.promise(7)
async def test_promql_compares_every_series(make_prometheus: Callable[..., Prometheus]) -> None:
    """The comparison holds for each series that fulfils it, also if the value is 0."""
    import time  # noqa: PLC0415

    at = time.time() - 5
    lines = [f"# TYPE {name} gauge\n{name}{labels} {value} {at:.3f}" for name, labels, value in (
        ("redis_up", "", 0), ("saving", "", 0), ("busy", "", 3), ("odd", "", "NaN")
    )]  # fmt: skip
    server = make_prometheus(history="\n".join(lines) + "\n")
    client = Client(Endpoint(url=server.url))
    check = Registry().make_checks(ClientSet(prometheus=client))["promql"]

    for query, expected in (
        ("redis_up == 0", CheckAnswer.OK),
        ("(saving == 0) and on () (busy < 5)", CheckAnswer.OK),
        ("saving < 1", CheckAnswer.OK),
        ("redis_up == 1", CheckAnswer.FAIL),
        ("redis_up == bool 1", CheckAnswer.FAIL),
        ("redis_up == bool 0", CheckAnswer.OK),
        ("redis_up", CheckAnswer.FAIL),
        ("busy", CheckAnswer.OK),
        ("odd", CheckAnswer.UNKNOWN),
        ("odd > 1", CheckAnswer.FAIL),
        ("nothing == 0", CheckAnswer.UNKNOWN),
    ):
        assert (await look(check, service("redis"), query=query)).answer is expected, query
    await client.aclose()


@pytest.fixture
async def measured(make_prometheus: Callable[..., Prometheus]) -> AsyncIterator[Callable[[float, float], Check]]:
    """Return a Prometheus that has measured these rates of successful and failed requests."""
    import time  # noqa: PLC0415

    clients: list[Client] = []

    def make(good: float, bad: float) -> Check:
        now = time.time()
        name, lines = "http_request_duration_seconds_count", []
        for status, rate in (("200", good), ("503", bad)):
            labels = f'{{job="fastapi-app",route="/items",status="{status}"}}'
            lines += [f"{name}{labels} {rate * age} {now - 60 + age:.3f}" for age in range(0, 60, 5)]
        server = make_prometheus(history=f"# TYPE {name} counter\n" + "\n".join(lines) + "\n")
        clients.append(Client(Endpoint(url=server.url)))
        return Registry().make_checks(ClientSet(prometheus=clients[-1]))["error.rate"]

    yield make
    for client in clients:
        await client.aclose()


@pytest.mark.parametrize(
    ("good", "bad", "answer"), [(9.9, 0.1, CheckAnswer.OK), (8, 2, CheckAnswer.FAIL), (0.01, 0.05, CheckAnswer.UNKNOWN)]
)
async def test_error_rate_has_the_share_and_the_origin_of_errors(
    measured: Callable[..., Check], good: float, bad: float, answer: CheckAnswer
) -> None:
    """The facts have the share of errors and their origin; with too few answers, the result is unknown."""
    found = await look(measured(good, bad), service("app"))

    assert found.answer is answer, found.summary
    if answer is CheckAnswer.FAIL:
        assert found.facts["ratio"] == pytest.approx(0.2, abs=0.02)
        assert (found.facts["by"][0]["route"], found.facts["overloaded"]) == ("/items", 1.0)


async def test_without_prometheus_the_error_rate_is_unknown() -> None:
    """Without Prometheus the answer is unknown, never *no errors*."""
    assert (await look(CHECKS["error.rate"], service("app"))).answer is CheckAnswer.UNKNOWN
