"""Names for episodes, runs, attempts and the like: short, sortable by time, without look-alike letters."""

from __future__ import annotations

import random
from datetime import datetime

from remediator.clock import to_micros

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"


class Ids:
    """A source of ids.

    Args:
        randomness: any ``random.Random``; production gives ``SystemRandom``, the simulation a seeded one.
    """

    def __init__(self, randomness: random.Random | None = None) -> None:
        self._random = randomness or random.SystemRandom()

    def new(self, kind: str, now: datetime) -> str:
        """``<kind>-<9 characters of milliseconds><8 random characters>``; 40 random bits a millisecond."""
        return f"{kind}-{_encode(to_micros(now) // 1000, 9)}{_encode(self._random.getrandbits(40), 8)}"


def _encode(number: int, width: int) -> str:
    characters = []
    for _ in range(width):
        number, digit = divmod(number, 32)
        characters.append(_ALPHABET[digit])
    return "".join(reversed(characters))
