"""``redis.process``, ``redis.connections`` and ``redis.wait`` on a real Redis."""

from __future__ import annotations

import os
import signal
import socket
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from xmlrpc.client import ServerProxy

from remediator.core.outcome import Outcome
from remediator.extensions.actions.redis_wait import RedisWait
from remediator.extensions.checks.base import CheckAnswer, Evidence
from remediator.extensions.checks.redis_connections import RedisConnections
from remediator.extensions.checks.redis_process import RedisProcess
from remediator.extensions.clientset import ClientSet
from remediator.playbooks.inventory import Service
from tests.support.action_runner import do, service
from tests.support.servers import accepts, free_port, until
from tests.support.servers.redis import MakeRedis, Redis
from tests.support.servers.supervisord import Supervisord


def bound(port: int, **more: Any) -> Service:
    """Return a service with a Redis on this host."""
    return service("redis", redis={"host": "127.0.0.1", "port": port, **more})


async def process(target: Service) -> Evidence:
    """Run redis.process."""
    return await RedisProcess(ClientSet()).ask(target, RedisProcess.Parameters())


async def connections(target: Service, **given: Any) -> Evidence:
    """Run redis.connections."""
    return await RedisConnections(ClientSet()).ask(target, RedisConnections.Parameters.model_validate(given))


async def test_a_stopped_process_is_distinguished_from_a_waiting_one(redis_server: Redis) -> None:
    """Both processes accept connections; the kernel's process state separates them."""
    target = bound(redis_server.port)
    assert (await process(target)).answer is CheckAnswer.OK
    os.kill(redis_server.pid, signal.SIGSTOP)
    until(lambda: "T (stopped)" in Path(f"/proc/{redis_server.pid}/status").read_text(), "it is stopped")
    found = await process(target)
    assert (found.answer, found.facts["activity"], found.facts["pid"]) == (
        CheckAnswer.FAIL,
        "stopped",
        redis_server.pid,
    )


async def test_another_program_on_the_port_is_named(supervisord: Supervisord) -> None:
    """If another program listens on the port, the state of Redis is unknown."""
    port = free_port()
    supervisord.program("web", f"{sys.executable} -m http.server {port} --bind 127.0.0.1")
    supervisord.start()
    with ServerProxy(f"http://operator:opensesame@127.0.0.1:{supervisord.port}/RPC2") as proxy:
        proxy.supervisor.startProcess("web")
    until(lambda: accepts(("127.0.0.1", port)), "it listens")
    found = await process(bound(port))
    assert (found.answer, found.facts["is_redis"]) == (CheckAnswer.FAIL, False)
    assert found.facts["pid"] in supervisord.children()


async def test_a_port_without_a_listener_is_a_fact(redis_server: Redis) -> None:
    """A port without a listener is a fact, so the answer is not unknown."""
    found = await process(bound(free_port()))
    assert (found.answer, found.facts["listens"]) == (CheckAnswer.FAIL, False)


async def test_the_process_of_another_host_is_unknown() -> None:
    """The process is unknown on another host, also for the master of a Sentinel, which may run anywhere."""
    assert (await process(service("redis", redis={"host": "redis.example"}))).answer is CheckAnswer.UNKNOWN
    sentinel = {"master": "main", "sentinels": [{"host": "127.0.0.1", "port": 1}]}
    assert (await process(service("redis", redis={"sentinel": sentinel}))).answer is CheckAnswer.UNKNOWN
    assert (await process(service("redis"))).answer is CheckAnswer.UNKNOWN


async def test_clients_by_address(make_redis: MakeRedis) -> None:
    """The numbers come from Redis while it accepts the check, and from the kernel when Redis rejects it."""
    server = make_redis("maxclients 12")
    target = bound(server.port)
    well = await connections(target)
    assert (well.answer, well.facts["maxclients"], well.facts["rejected"]) == (CheckAnswer.OK, 12, False)
    with ExitStack() as opened:
        for _ in range(12):
            opened.enter_context(socket.create_connection(("127.0.0.1", server.port)))
        found = await connections(target, idle_over="1h")
        assert (found.answer, found.facts["rejected"], found.facts["idle"]) == (CheckAnswer.FAIL, True, 0)
        [address] = found.facts["by_address"]
        assert address["address"] == "127.0.0.1" and address["connections"] >= 12
        assert "from 127.0.0.1 (idle" in found.summary


async def test_clients_near_the_limit_fail_the_check(make_redis: MakeRedis) -> None:
    """The check fails at a limit in percent of maxclients."""
    server = make_redis("maxclients 12")
    with socket.create_connection(("127.0.0.1", server.port)):
        assert (await connections(bound(server.port), max_percent=5)).answer is CheckAnswer.FAIL
    server.kill()
    assert (await connections(bound(server.port))).answer is CheckAnswer.UNKNOWN


async def test_a_wait_ends_when_redis_serves_or_fails(make_redis: MakeRedis) -> None:
    """The wait ends when Redis serves, asks for another call in a waiting state, and fails in any other state."""
    server = make_redis()
    action = RedisWait(ClientSet())
    assert (await do(action, bound(server.port))).outcome is Outcome.OK
    server.kill()
    failed = await do(action, bound(server.port))
    assert (failed.outcome, failed.poll, failed.output["state"]) == (Outcome.FAILED, None, "down")
    waits = await do(action, bound(server.port), states=["down"], within="3m")
    assert waits.poll is not None and waits.poll.within.total_seconds() == 180
