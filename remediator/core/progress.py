"""Progress of a background loop. Each loop reports after every turn, so a hung loop is detected."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar

_listener: ContextVar[Callable[[float], None] | None] = ContextVar("progress", default=None)


def listen(listener: Callable[[float], None]) -> None:
    """Register a listener. Each later :func:`report` of the current task calls it with the length of the next pause."""
    _listener.set(listener)


def report(pause: float = 0.0) -> None:
    """Report a turn of the current loop.

    Args:
        pause: seconds that the loop will wait, or that its next turn may take longer than usual.
    """
    listener = _listener.get()
    if listener is not None:
        listener(pause)
