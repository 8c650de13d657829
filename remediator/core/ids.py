"""IDs of episodes, runs, attempts and other records: short, sortable by time, without look-alike characters."""

from __future__ import annotations

import random
from datetime import datetime

from remediator.core.clock import from_micros, to_micros

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"


class Ids:
    """A source of IDs.

    Args:
        randomness: a ``random.Random``: ``SystemRandom`` by default, and a seeded generator in the simulation.
    """

    def __init__(self, randomness: random.Random | None = None) -> None:
        self._random = randomness or random.SystemRandom()

    def new(self, kind: str, now: datetime) -> str:
        """Return ``<kind>-<9 characters of milliseconds><8 random characters>``: 40 random bits per millisecond."""
        return f"{kind}-{_encode(to_micros(now) // 1000, 9)}{_encode(self._random.getrandbits(40), 8)}"


def made_at(name: str) -> datetime | None:
    """Return when :meth:`Ids.new` made an ID, to the millisecond; None for a text that is not such an ID."""
    digits = name.rpartition("-")[2]
    if len(digits) != 17 or any(letter not in _ALPHABET for letter in digits):
        return None
    milliseconds = 0
    for letter in digits[:9]:
        milliseconds = milliseconds * 32 + _ALPHABET.index(letter)
    try:
        return from_micros(milliseconds * 1000)
    except OverflowError:
        return None


def _encode(number: int, width: int) -> str:
    characters = []
    for _ in range(width):
        number, digit = divmod(number, 32)
        characters.append(_ALPHABET[digit])
    return "".join(reversed(characters))
