"""The client names every impossible reply of Redis and guesses none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from remediator.clients.redis import models
from remediator.clients.redis.connection import RedisBadAnswer


@pytest.mark.parametrize(
    ("read", "replies"),
    [
        (models.role, [None, [], [b"master"], [b"slave", b"host", b"port", b"up", 1], [b"slave", 1, 2, 3, 4]]),
        (models.slow_commands, [None, [[1, 2]], [[1, "x", 3, [b"GET"]]], [[1, 2, 3, [4]]]]),
        (models.latency_events, [None, [[b"command"]], [[b"command", 1e300, 1, 1]], [[1, 1, 1, 1]]]),
        (models.clients, [None, b"id=x addr=a", b"addr=a name=n"]),
        (models.info, [None, 7]),
        (models.instant, [None, "now", 1e300]),
    ],
)
def test_an_impossible_reply_is_a_bad_answer(read: Callable[[Any], Any], replies: list[Any]) -> None:
    """A reply of another type, length or meaning is a BadAnswer."""
    for reply in replies:
        with pytest.raises(RedisBadAnswer):
            read(reply)


def test_answers_of_an_old_redis() -> None:
    """Replies of Redis before 4 (slow log without client) and before 7 (client without total memory) are read."""
    (slow,) = models.slow_commands([[1, 1700000000, 12, [b"GET", b"key", b"more"]]])
    assert (slow.command, slow.client) == ("GET key", "")
    (client,) = models.clients(b"id=3 addr=1.2.3.4:5 name= age=1 idle=2 cmd=get omem=7\n")
    assert (client.memory, client.user) == (7, "")
