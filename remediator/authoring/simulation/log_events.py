"""Log events of a simulated or rehearsed pipeline: not written, because the result has the same information."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import structlog


def drop(logger: Any, name: str, event: Any) -> Any:
    """Drop a log event."""
    raise structlog.DropEvent


@contextmanager
def given_to(processor: structlog.typing.Processor = drop) -> Iterator[None]:
    """Give the log events of this process to a processor, and restore the configuration at the end."""
    before = structlog.get_config()
    structlog.configure(processors=[processor])
    try:
        yield
    finally:
        structlog.configure(**before)
