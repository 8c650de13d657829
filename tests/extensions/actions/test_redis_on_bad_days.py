"""The ``redis.*`` actions on a Redis that refuses, sends invalid answers, does not answer, or whose answer is lost."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from remediator.errors import BadAnswer, Refused, TargetError, TimedOut, Unreachable
from remediator.extensions.actions.base import EffectStatus
from remediator.playbooks.inventory import Service
from tests.extensions.actions.test_redis import ACTIONS, target
from tests.support.action_runner import do, observe, plan, service
from tests.support.fake_servers import listener
from tests.support.servers.redis import MakeRedis, Redis

GIVEN: dict[str, dict[str, Any]] = {
    "redis.bgrewriteaof": {},
    "redis.bgsave": {},
    "redis.client_kill": {"idle_over": "1h"},
    "redis.config_set": {"name": "maxmemory", "value": "100mb"},
    "redis.disable_persistence": {},
    "redis.memory_purge": {},
    "redis.restore_persistence": {"appendonly": "yes"},
}
each_action = pytest.mark.parametrize("name", sorted(GIVEN))


def at(port: int, **more: Any) -> Service:
    """Return a service whose inventory entry has a Redis on this port."""
    return service("redis", redis={"host": "127.0.0.1", "port": port, **more})


@each_action
async def test_without_the_password_nothing_is_changed(name: str, redis_server: Redis) -> None:
    """Redis refuses the connection without a password, and nothing is changed."""
    with pytest.raises(Refused):
        await do(ACTIONS[name], at(redis_server.port), **GIVEN[name])


@each_action
async def test_an_invalid_answer_is_a_bad_answer(name: str) -> None:
    """If another program listens on the port, the error is :class:`BadAnswer`."""

    async def nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(1000):
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with listener(nonsense) as port:
        with pytest.raises(BadAnswer):
            await do(ACTIONS[name], at(port), **GIVEN[name])


@each_action
async def test_silence_is_bounded(name: str) -> None:
    """If the server accepts the connection and never answers, no command was sent, so nothing happened."""

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(1000):
            pass

    async with listener(silent) as port:
        with pytest.raises(Unreachable, match="does not answer"):
            await do(ACTIONS[name], at(port, timeout="300ms"), **GIVEN[name])


@asynccontextmanager
async def hushed(server: Redis, word: bytes) -> AsyncIterator[tuple[int, list[bytes]]]:
    """Forward the traffic to a Redis, and drop all answers from the first command that contains ``word``."""
    heard: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        theirs, ours = await asyncio.open_connection("127.0.0.1", server.port)
        back = asyncio.create_task(_pass(theirs, writer, heard))
        try:
            while data := await reader.read(65536):
                if word in data.upper():
                    heard.append(data)
                ours.write(data)
        finally:
            back.cancel()
            ours.close()
            with suppress(OSError):
                await ours.wait_closed()

    async with listener(serve) as port:
        yield port, heard


async def _pass(theirs: asyncio.StreamReader, writer: asyncio.StreamWriter, heard: list[bytes]) -> None:
    while data := await theirs.read(65536):
        if not heard:
            writer.write(data)


LOST: dict[str, tuple[bytes, EffectStatus]] = {
    "redis.bgrewriteaof": (b"BGREWRITEAOF", EffectStatus.YES),
    "redis.bgsave": (b"BGSAVE", EffectStatus.YES),
    "redis.client_kill": (b"\r\nKILL\r\n", EffectStatus.YES),
    "redis.config_set": (b"\r\nSET\r\n", EffectStatus.YES),
    "redis.disable_persistence": (b"\r\nSET\r\n", EffectStatus.YES),
    "redis.memory_purge": (b"\r\nPURGE\r\n", EffectStatus.NO),
    "redis.restore_persistence": (b"\r\nSET\r\n", EffectStatus.YES),
}
"""The command whose answer is lost, and the result of the observation.

A purge leaves no trace, so its observation answers no; a second purge is harmless.
"""


HOG = {"redis.client_kill": {"idle_over": None, "memory_over": 500_000}}


@asynccontextmanager
async def hog(server: Redis) -> AsyncIterator[None]:
    """Connect a client that has sent most of a large command, so Redis keeps its buffer."""
    _, writer = await asyncio.open_connection("127.0.0.1", server.port)
    password = [f"*2\r\n$4\r\nAUTH\r\n${len(server.password)}\r\n{server.password}\r\n"] if server.password else []
    named = "*3\r\n$6\r\nCLIENT\r\n$7\r\nSETNAME\r\n$3\r\nhog\r\n"
    writer.write("".join([*password, named]).encode() + b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$900000\r\n" + b"x" * 800_000)
    await writer.drain()
    while (
        "name=hog" not in (found := server.ask("CLIENT", "LIST"))
        or max(map(int, re.findall("tot-mem=([0-9]+)", found))) < 600_000
    ):
        await asyncio.sleep(0.05)
    yield
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()


@each_action
async def test_a_lost_answer_is_observed(name: str, make_redis: MakeRedis) -> None:
    """The command is sent once, its outcome is unknown, and an observation shows its effect."""
    server = make_redis("appendonly yes" if name != "redis.restore_persistence" else "appendonly no")
    action, direct, given = ACTIONS[name], target(server), {**GIVEN[name], **HOG.get(name, {})}
    word, happened = LOST[name]
    since = datetime.now(UTC)
    assert direct.redis is not None
    async with hog(server), hushed(server, word) as (port, heard):
        call = await plan(action, direct, **given)
        where = direct.redis.model_copy(update={"port": port, "timeout": timedelta(seconds=1)})
        with pytest.raises(TimedOut):
            await do(action, direct.model_copy(update={"redis": where}), call=call, **given)

    assert len(heard) == 1
    seen = await observe(action, direct, call, since=since, **given)
    assert seen.happened is happened, seen


@each_action
async def test_a_redis_that_was_restarted_after_planning_is_refused(name: str, make_redis: MakeRedis) -> None:
    """After a restart, memory, clients and files differ from the plan, so the action is refused."""
    server = make_redis("appendonly yes" if name != "redis.restore_persistence" else "appendonly no")
    action, redis, given = ACTIONS[name], target(server), {**GIVEN[name], **HOG.get(name, {})}
    async with hog(server):
        call = await plan(action, redis, **given)
    server.kill()
    server.start()

    with pytest.raises(TargetError, match="restarted after planning"):
        await do(action, redis, call=call, **given)
    said = server.ask("INFO", "commandstats")
    changes = ("config|set", "bgsave", "bgrewriteaof", "client|kill", "memory|purge")
    assert not any(f"cmdstat_{word}:" in said for word in changes)
