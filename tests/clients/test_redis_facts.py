"""Replies of Redis that no Redis gives: each is named, none is guessed at."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from remediator.clients import redis_facts
from remediator.clients.redis_wire import RedisBadAnswer


@pytest.mark.parametrize(
    ("read", "replies"),
    [
        (redis_facts.role, [None, [], [b"master"], [b"slave", b"host", b"port", b"up", 1], [b"slave", 1, 2, 3, 4]]),
        (redis_facts.slow_commands, [None, [[1, 2]], [[1, "x", 3, [b"GET"]]], [[1, 2, 3, [4]]]]),
        (redis_facts.latency_events, [None, [[b"command"]], [[b"command", 1e300, 1, 1]], [[1, 1, 1, 1]]]),
        (redis_facts.clients, [None, b"id=x addr=a", b"addr=a name=n"]),
        (redis_facts.info, [None, 7]),
        (redis_facts.instant, [None, "now", 1e300]),
    ],
)
def test_an_impossible_reply_is_a_bad_answer(read: Callable[[Any], Any], replies: list[Any]) -> None:
    """Another type, another length, another meaning."""
    for reply in replies:
        with pytest.raises(RedisBadAnswer):
            read(reply)


def test_an_old_redis_tells_less() -> None:
    """Before Redis 4 the slow log had no client, before 7 a client no total memory: the rest is read all the same."""
    (slow,) = redis_facts.slow_commands([[1, 1700000000, 12, [b"GET", b"key", b"more"]]])
    assert (slow.command, slow.client) == ("GET key", "")
    (client,) = redis_facts.clients(b"id=3 addr=1.2.3.4:5 name= age=1 idle=2 cmd=get omem=7\n")
    assert (client.memory, client.user) == (7, "")
