"""The output of the log. A log that cannot be written, or whose reader hangs, never stops a run (promise 14)."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import Any, TextIO, cast

import structlog

from remediator.config import Log
from remediator.core.sizes import MEBIBYTE
from remediator.runtime.background_queue import BackgroundQueue

MAX_WAITING = 4 * MEBIBYTE
"""Bytes that wait for a slow reader of the log; more are lost."""


class LogOutput(BackgroundQueue[bytes]):
    """Writes lines to a file descriptor, and counts those that cannot be written.

    A full disk or a closed pipe raises on each write, and a pipe without a reader blocks. The caller is often the
    pipeline, between an intent and its outcome.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__("log", self._write, MAX_WAITING, "the reader of the log is too slow", size=len, count=_lines)
        self._descriptor = descriptor
        self._reported = 0

    def write(self, text: str) -> int:
        """Put text into the queue and return its length, also if it is lost."""
        self.put(text.encode("utf-8", "backslashreplace"))
        return len(text)

    def flush(self) -> None:
        """Do nothing. A caller must never wait for the log."""

    def _write(self, data: bytes) -> None:
        missing = self.lost - self._reported
        report = f"\n{missing} lines of the log could not be written and are lost\n".encode() if missing else b""
        _write_all(self._descriptor, report + data)
        self._reported += missing


def _lines(data: bytes) -> int:
    return data.count(b"\n") or 1


def _write_all(descriptor: int, data: bytes) -> None:
    """Write everything. There is no buffer: after an error, a buffered stream would repeat the unwritten text."""
    while data:
        data = data[os.write(descriptor, data) :]


class Guarded:
    """The processors of the log in one, which lose an event rather than raise."""

    def __init__(self, processors: list[Any]) -> None:
        self._processors = processors
        self.on_error: Callable[[Exception], None] = lambda error: None

    def __call__(self, logger: Any, name: str, event: Any) -> Any:
        try:
            for processor in self._processors:
                event = processor(logger, name, event)
        except structlog.DropEvent:
            raise
        except Exception as error:  # noqa: BLE001 - an event that cannot be rendered must not stop a run
            self.on_error(error)
            raise structlog.DropEvent from None
        return event


def log_to(descriptor: int, settings: Log) -> LogOutput:
    """Write one line per event to a file descriptor, as text (``human``) or as JSON. Return the output."""
    output = LogOutput(descriptor)
    level = logging.getLevelNamesMapping()[settings.level.upper()]
    format_ = settings.format
    if format_ == "auto":
        format_ = "human" if os.isatty(descriptor) else "json"
    render: Any = (
        structlog.processors.JSONRenderer()
        if format_ == "json"
        else structlog.dev.ConsoleRenderer(colors=os.isatty(descriptor))
    )
    processors = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="%Y-%m-%dT%H:%M:%S.%fZ", utc=True),
        structlog.processors.format_exc_info,
        render,
    ]
    guarded = Guarded(processors)
    guarded.on_error = lambda error: output.count_lost(f"an event could not be rendered: {error}")
    structlog.configure(
        processors=[guarded],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(cast(TextIO, output)),
    )
    logging.basicConfig(
        level=max(level, logging.WARNING),
        format="%(asctime)s [%(levelname)s] %(name)s: %(message)s",
        stream=cast(TextIO, output),
        force=True,
    )
    logging.raiseExceptions = False
    return output
