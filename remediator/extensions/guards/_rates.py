"""Rates: a count and a duration, such as ``3/1h``."""

from __future__ import annotations

import re
from datetime import timedelta

from remediator.core.clock import parse_duration
from remediator.errors import InputError

_RATE = re.compile(r"([1-9][0-9]{0,5})/(\S+)")


def parse_rate(rate: str) -> tuple[int, timedelta]:
    """Parse a rate: ``3/1h`` becomes (3, one hour).

    Raises:
        ValueError: it has another form, or its duration is 0.
    """
    match = _RATE.fullmatch(rate)
    if match is None:
        raise ValueError(f"invalid rate {rate!r}: expected COUNT/DURATION, for example 3/1h")
    try:
        length = parse_duration(match[2])
    except InputError as error:
        raise ValueError(str(error)) from None
    if length <= timedelta(0):
        raise ValueError(f"invalid rate {rate!r}: the duration must be longer than 0s, for example 3/1h")
    return int(match[1]), length
