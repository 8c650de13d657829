"""The identity of each changing call of an attempt, for servers that remember what they have begun.

The pipeline sets it around a call and its observation. The ID is the ID of the committed intent. The process that
observes an attempt may be another process; with this ID, it asks about exactly the calls of the attempt.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from remediator.errors import TargetError


@dataclass(slots=True)
class AttemptCalls:
    """The attempt that the current task makes or observes.

    Args:
        attempt: its ID.
        count: how many changing calls it has made to servers that remember them.
    """

    attempt: str
    count: int = 0

    def next_number(self) -> int:
        """Return the number of the next changing call, from 0."""
        self.count += 1
        return self.count - 1


ATTEMPT: ContextVar[AttemptCalls | None] = ContextVar("remediator_attempt", default=None)
"""The attempt of the current task; None outside an attempt."""


@contextmanager
def in_attempt(attempt: str) -> Iterator[None]:
    """Make or observe the calls of an attempt, whose intent is committed, in the current task."""
    token = ATTEMPT.set(AttemptCalls(attempt))
    try:
        yield
    finally:
        ATTEMPT.reset(token)


def current_attempt() -> AttemptCalls:
    """Return the attempt of the current task.

    Raises:
        TargetError: there is none. Without a durable intent, nothing may be changed.
    """
    found = ATTEMPT.get()
    if found is None:
        raise TargetError("a call that changes another host needs a committed intent; nothing was changed")
    return found
