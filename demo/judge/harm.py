"""Measure the harm of a row at the real servers: keys, starts of programs, failed requests, messages."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import redis

from demo.judge.row import Judgement, Row
from demo.judge.scene import Scene
from remediator.core.message import MessageKind
from remediator.extensions.notifiers.base import Tone
from remediator.reporting.formatting import plural

KEYS = 1000
_PREFIX = "judge:"
_WORSE = 0.2
"""How much the share of failed requests may grow after the first action without counting as harm."""
_ASKING = frozenset({Tone.ASK, Tone.PROBLEM})
"""Purposes of messages that ask a person for something: a decision, or to take over."""
_SPAWNED = re.compile(r"spawned: '([\w-]+)' with pid")


@dataclass(frozen=True)
class Before:
    """The counts right after the fault was made."""

    at: float
    starts: Counter[str]
    keys: int
    messages: int


def write_keys(scene: Scene) -> None:
    """Write the keys whose loss is measured before the fault is made."""
    with scene.redis() as client, client.pipeline(transaction=False) as batch:
        for number in range(KEYS):
            batch.set(f"{_PREFIX}{number}", f"value {number}")
        batch.execute()


def keys(scene: Scene) -> int | None:
    """Return how many of the keys exist with their value, or None if Redis does not answer now."""
    try:
        with scene.redis() as client:
            values = client.mget([f"{_PREFIX}{number}" for number in range(KEYS)])
    except redis.RedisError:
        return None
    return len([number for number, value in enumerate(values) if value == f"value {number}".encode()])


def starts(scene: Scene) -> Counter[str]:
    """Return how often supervisord has started each program, from its log."""
    log = (scene.settings.state / "logs/supervisord.log").read_text(errors="replace")
    return Counter(_SPAWNED.findall(log))


def before(scene: Scene, well: int) -> Before:
    """Count keys and starts right after the fault was made."""
    return Before(time.monotonic(), starts(scene), well, len(scene.messages))


def incidents_asked(told: Sequence[Mapping[str, Any]]) -> frozenset[str]:
    """Return the IDs of the incidents about which any channel asked a person."""
    about = (item for item in told if MessageKind(item["kind"]) is not MessageKind.NOTICE)
    return frozenset(str(item["incident"]) for item in about if Tone(item["tone"]) in _ASKING)


def measure(scene: Scene, row: Row, found: Judgement, earlier: Before, acted: float | None) -> None:
    """Add the harm to the judgement. ``acted`` is the monotonic time of the first action."""
    now = time.monotonic()
    left, more = keys(scene), starts(scene) - earlier.starts
    failed, total = scene.client.count(earlier.at, now)
    told = scene.messages[earlier.messages :]
    asked = incidents_asked(told)
    found.told = tuple(f"{item['kind']}: {item['title']}" for item in told)
    if left is not None and left < earlier.keys and not row.loses_keys:
        found.harm.append(f"{earlier.keys - left} of {earlier.keys} keys lost")
    for program in sorted({*more, *found.restarts}):
        count = (found.restarts if program in row.restless else more)[program]
        if count > row.starts.get(program, 0):
            found.harm.append(f"{program} was started {plural(count, 'time')}, allowed {row.starts.get(program, 0)}")
    for action in found.actions:
        if action.partition(":")[0] not in row.remedies:
            found.harm.append(f"{action} is not a remedy for this")
    if acted is not None:
        fault, after = scene.client.share(earlier.at, acted), scene.client.share(acted, now)
        if after > fault + _WORSE:
            found.harm.append(f"{after:.0%} of requests failed after the action, {fault:.0%} before it")
    if row.pages is not None and len(asked) > row.pages:
        found.harm.append(f"a person was asked about {plural(len(asked), 'incident')}, allowed {row.pages}")
    found.harm += filter(None, (probe(scene) for probe in row.must_not))
    counted = "Redis cannot be asked" if left is None else f"{earlier.keys - left} keys lost"
    restarted = ", ".join(f"{program} {plural(count, 'time')}" for program, count in sorted(more.items())) or "none"
    found.measured = (
        f"{counted}; {failed} of {total} requests failed; starts: {restarted}; "
        f"asked a person about {plural(len(asked), 'incident')}"
    )
