"""Changes of objects that something else changes too: the API server compares the version that was read."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from remediator.errors import TargetError

_TRIES = 5


class Conflict(TargetError):
    """The object was changed after it was read. Nothing was changed."""


async def repeat_on_conflict(change: Callable[[], Awaitable[None]]) -> None:
    """Make a change that reads the object, compares it with the plan and sends its version; in all, at most five times.

    A conflict changed nothing, and the status of an object changes often, in a crash loop all the time.

    Raises:
        Conflict: the object was changed between each reading and sending.
    """
    for left in reversed(range(_TRIES)):
        try:
            await change()
            return
        except Conflict:
            if not left:
                raise
