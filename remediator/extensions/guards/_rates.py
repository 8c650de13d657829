"""Rates as people write them: so many in so much time, ``3/1h``."""

from __future__ import annotations

import re
from datetime import timedelta

from remediator.core.clock import parse_duration
from remediator.errors import InputError

_RATE = re.compile(r"([1-9][0-9]{0,5})/(\S+)")


def parse_rate(rate: str) -> tuple[int, timedelta]:
    """``3/1h`` as (3, one hour).

    Raises:
        ValueError: not of that form, or in no time.
    """
    match = _RATE.fullmatch(rate)
    if match is None:
        raise ValueError(f"{rate!r} is not so many in so much time; write count/duration, like 3/1h")
    try:
        length = parse_duration(match[2])
    except InputError as error:
        raise ValueError(str(error)) from None
    if length <= timedelta(0):
        raise ValueError(f"{rate!r} counts in no time at all")
    return int(match[1]), length
