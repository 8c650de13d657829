"""The cost of an action on a real Redis: while Redis answers, while it hangs, and while it is stopped."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from remediator.clients.endpoints import Endpoint
from remediator.clients.prometheus import client
from remediator.core.cost import Cost
from remediator.extensions import costs
from remediator.extensions.clientset import ClientSet
from remediator.extensions.platforms.base import ServiceStatus, State
from remediator.playbooks.inventory import Service
from tests.support.action_runner import service
from tests.support.servers import free_port, require, until
from tests.support.servers.prometheus import Prometheus
from tests.support.servers.redis import MakeRedis, Redis

CLIENTS = ClientSet()


def target(server: Redis, **more: Any) -> Service:
    """Return the service of a Redis."""
    return service("redis", redis={"host": "127.0.0.1", "port": server.port, "timeout": "500ms"}, **more)


def status(state: State, pid: int = 0) -> ServiceStatus:
    """Return a status of the platform."""
    return ServiceStatus(state, f"redis is {state}", 1, int(state is State.RUNNING), {"pid": pid})


async def measured(server: Redis, platform: ServiceStatus | None = None) -> Cost:
    """Return the measured cost."""
    return await costs.redis_data(CLIENTS, target(server), platform)


async def test_a_redis_without_persistence_may_lose_every_write(make_redis: MakeRedis) -> None:
    """Without persistence, all changes since the start are only in memory."""
    redis = make_redis()
    redis.ask("MSET", "a", "1", "b", "2")
    cost = await measured(redis)
    assert (cost.unsaved_writes, cost.cannot_save, cost.only_copy, cost.unknown) == (2, False, True, {})


async def test_a_save_makes_the_cost_zero(make_redis: MakeRedis) -> None:
    """After a save, no write would be lost, and the age of the save is known."""
    redis = make_redis()
    redis.ask("SET", "a", "1")
    redis.ask("SAVE")
    cost = await measured(redis)
    assert cost.unsaved_writes == 0
    assert cost.last_save_age is not None and cost.last_save_age < 60


async def test_a_replica_is_another_copy(make_redis: MakeRedis) -> None:
    """If a replica is online, the master does not have the only copy."""
    master = make_redis("repl-diskless-sync-delay 0")
    replica = make_redis(f"replicaof 127.0.0.1 {master.port}")
    until(lambda: "state=online" in master.ask("INFO", "replication"), "the replica is online")
    assert (await measured(master)).only_copy is False
    assert (await measured(replica)).only_copy is False
    lag = await costs.replication(CLIENTS, target(master))
    assert lag.unreplicated_bytes is not None and lag.unknown == {}


async def test_a_failover_without_a_replica_is_unknown(make_redis: MakeRedis) -> None:
    """Without a replica, a failover has an unknown cost."""
    assert "unreplicated_bytes" in (await costs.replication(CLIENTS, target(make_redis()))).unknown


@pytest.mark.parametrize("state", [State.EXITED, State.STOPPED, State.CRASH_LOOP])
async def test_a_dead_process_has_no_cost(make_redis: MakeRedis, state: State) -> None:
    """The memory of a dead process is lost already, so a start costs nothing."""
    redis = make_redis()
    redis.kill()
    assert (await measured(redis, status(state))).unsaved_writes == 0


async def test_a_running_service_without_a_listener_has_an_unknown_cost(make_redis: MakeRedis) -> None:
    """Another Redis or another port may be meant, so the cost is unknown."""
    redis = make_redis()
    redis.kill()
    assert "unsaved_writes" in (await measured(redis, status(State.RUNNING))).unknown


async def test_a_refused_password_leaves_it_unknown(make_redis: MakeRedis) -> None:
    """Other clients may still write, so the cost is unknown."""
    redis = make_redis(password="secret")
    assert "unsaved_writes" in (await measured(redis, status(State.RUNNING, redis.pid))).unknown


@pytest.fixture
def hung() -> Iterator[Callable[[Redis], int]]:
    """Stop the process of a Redis by SIGSTOP, and continue it afterwards."""
    stopped: list[int] = []

    def stop(redis: Redis) -> int:
        os.kill(redis.pid, signal.SIGSTOP)
        stopped.append(redis.pid)
        return redis.pid

    yield stop
    for pid in stopped:
        os.kill(pid, signal.SIGCONT)


async def test_an_open_append_only_file_has_every_write(make_redis: MakeRedis, hung: Callable[[Redis], int]) -> None:
    """The hung process has the append-only file open for writing, so no write would be lost."""
    redis = make_redis("appendonly yes")
    redis.ask("SET", "a", "1")
    cost = await measured(redis, status(State.RUNNING, hung(redis)))
    assert (cost.unsaved_writes, cost.cannot_save) == (0, False)
    assert "appendonly.aof.1.incr.aof" in cost.source


async def test_an_append_only_file_that_was_switched_off_proves_nothing(
    make_redis: MakeRedis, hung: Callable[[Redis], int]
) -> None:
    """The files are still on the disk but lack the later writes, so they prove nothing."""
    redis = make_redis("appendonly yes")
    redis.ask("CONFIG", "SET", "appendonly", "no")
    redis.ask("SET", "a", "1")
    assert list((redis.folder / "appendonlydir").iterdir())
    assert "unsaved_writes" in (await measured(redis, status(State.RUNNING, hung(redis)))).unknown


@pytest.fixture
def exported(
    tmp_path: Path, make_redis: MakeRedis, make_prometheus: Callable[..., Prometheus]
) -> Iterator[tuple[Redis, Prometheus]]:
    """Return a Redis whose metrics a real redis_exporter exports to a real Prometheus."""
    redis, port = make_redis(), free_port()
    argv = [require("prometheus-redis-exporter"), f"-web.listen-address=127.0.0.1:{port}"]
    argv += [f"-redis.addr=redis://127.0.0.1:{redis.port}", "-connection-timeout=50ms"]
    exporter = subprocess.Popen(argv, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    scrape = f'scrape_configs: [{{job_name: redis-exporter, static_configs: [{{targets: ["127.0.0.1:{port}"]}}]}}]\n'
    try:
        yield redis, make_prometheus(configuration=scrape)
    finally:
        exporter.kill()
        exporter.wait()


async def test_the_last_samples_show_the_unsaved_writes_of_a_hung_redis(
    exported: tuple[Redis, Prometheus], hung: Callable[[Redis], int]
) -> None:
    """Prometheus saw 50 unsaved writes directly before Redis hung. Without the labels of the exporter, the cost is
    unknown."""
    redis, server = exported
    for number in range(50):
        redis.ask("SET", f"key{number}", "x")
    wanted = "redis_rdb_changes_since_last_save == 50"
    until(lambda: bool(server.query(wanted)), "Prometheus has seen the writes")
    hung(redis)
    prometheus = client.Prometheus(Endpoint.model_validate({"url": server.url}))
    clients, running = ClientSet(prometheus=prometheus), status(State.RUNNING)

    known = await costs.redis_data(clients, target(redis, redis_exporter={"job": "redis-exporter"}), running)
    assert (known.unsaved_writes, known.cannot_save, known.unknown) == (50, False, {})
    assert "right before Redis stopped answering" in known.source

    without = await costs.redis_data(clients, target(redis), running)
    other = await costs.redis_data(clients, target(redis, redis_exporter={"job": "another"}), running)
    assert "unsaved_writes" in without.unknown and "unsaved_writes" in other.unknown
    await prometheus.aclose()


async def test_requests_in_progress_come_from_prometheus(make_prometheus: Callable[..., Prometheus]) -> None:
    """The number comes from the expression in the inventory; if the result is not one series, it is unknown."""
    server = make_prometheus()
    prometheus = client.Prometheus(Endpoint.model_validate({"url": server.url}))
    clients = ClientSet(prometheus=prometheus)

    def app(query: str) -> Service:
        return service("app", http={"url": "http://127.0.0.1:1", "in_flight": query})

    assert (await costs.in_flight(clients, app("vector(7)"))).in_flight_requests == 7
    assert "in_flight_requests" in (await costs.in_flight(clients, app("absent_metric"))).unknown
    assert "in_flight_requests" in (await costs.in_flight(ClientSet(), app("vector(7)"))).unknown
    assert await costs.in_flight(clients, service("app")) == Cost()
    await prometheus.aclose()
