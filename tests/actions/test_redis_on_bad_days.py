"""The redis.* actions before a Redis that refuses, talks nonsense, says nothing, or whose last word is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from remediator.actions import Happened
from remediator.errors import BadAnswer, Refused, TimedOut, Unreachable
from remediator.inventory import Service
from tests.actions.doing import do, observe, plan, service
from tests.actions.test_redis import ACTIONS, target
from tests.clients.peers import listener
from tests.servers.redis import Redis

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
    """A Redis that the inventory expects there."""
    return service("redis", redis={"host": "127.0.0.1", "port": port, **more})


@each_action
async def test_without_the_password_nothing_is_done(name: str, redis_server: Redis) -> None:
    """Redis refuses, and that is what is told."""
    with pytest.raises(Refused):
        await do(ACTIONS[name], at(redis_server.port), **GIVEN[name])


@each_action
async def test_nonsense_is_a_bad_answer(name: str) -> None:
    """Something else listens on Redis' port."""

    async def nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(1000):
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with listener(nonsense) as port:
        with pytest.raises(BadAnswer):
            await do(ACTIONS[name], at(port), **GIVEN[name])


@each_action
async def test_silence_is_bounded(name: str) -> None:
    """It takes the connection and never says a word: nothing was asked of it yet, so certainly nothing happened."""

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(1000):
            pass

    async with listener(silent) as port:
        with pytest.raises(Unreachable, match="does not answer"):
            await do(ACTIONS[name], at(port, timeout="300ms"), **GIVEN[name])


@asynccontextmanager
async def hushed(server: Redis, word: bytes) -> AsyncIterator[tuple[int, list[bytes]]]:
    """Before a Redis: passes all on, and from the first command with ``word`` in it no answer any more."""
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


async def test_a_parameter_whose_answer_was_lost_is_seen_to_be_set(redis_server: Redis) -> None:
    """The outcome is unknown, it was sent once, and a look says yes: nobody repeats it."""
    action, direct, given = ACTIONS["redis.config_set"], target(redis_server), GIVEN["redis.config_set"]
    call = await plan(action, direct, **given)
    assert direct.redis is not None
    async with hushed(redis_server, b"\r\nSET\r\n") as (port, heard):
        where = direct.redis.model_copy(update={"port": port})
        with pytest.raises(TimedOut):
            await do(action, direct.model_copy(update={"redis": where}), call=call, **given)

    assert len(heard) == 1
    assert (await observe(action, direct, call, **given)).happened is Happened.YES
