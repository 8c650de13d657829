"""The output of the log. A log that cannot be written, or whose reader hangs, never stops a run (promise 14)."""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Callable
from threading import Condition, Thread
from typing import Any, TextIO, cast

import structlog

from remediator.config import Log

MAX_WAITING = 4 * 1024 * 1024
"""Bytes that wait for a slow reader of the log; more are lost."""


class LogOutput:
    """Writes lines to a file descriptor, and counts those that cannot be written.

    A full disk or a closed pipe raises on each write, and a pipe that nobody reads blocks. The caller is often the
    pipeline, between an intent and its outcome. Therefore a thread of its own writes, from a bounded queue.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self._busy = False
        self._changed = Condition()
        self._reported = 0
        self.lost = 0
        """Lines that could not be written since the start."""
        self.error = ""
        """Why the last line could not be written; empty if it was."""
        self._thread = Thread(target=self._serve, name="log", daemon=True)
        self._thread.start()

    def write(self, text: str) -> int:
        """Put text into the queue and return its length, also if it is lost."""
        data = text.encode("utf-8", "backslashreplace")
        with self._changed:
            if self._size + len(data) > MAX_WAITING:
                self._count(data, "the reader of the log is too slow")
            else:
                self._waiting.append(data)
                self._size += len(data)
            self._changed.notify_all()
        return len(text)

    def count_lost(self, error: str) -> None:
        """Count a line that was never written."""
        with self._changed:
            self._count(b"", error)

    def flush(self) -> None:
        """Do nothing. A caller must never wait for the log."""

    def drain(self, seconds: float = 1.0) -> bool:
        """Wait until everything is written or lost, at most for some seconds. Return whether it is."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting and not self._busy, seconds)

    def _serve(self) -> None:
        while True:
            with self._changed:
                self._busy = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: bool(self._waiting))
                data = self._waiting.popleft()
                self._size -= len(data)
                self._busy = True
                missing = self.lost - self._reported
            report = f"\n{missing} lines of the log could not be written and are lost\n".encode() if missing else b""
            try:
                _write_all(self._descriptor, report + data)
            except OSError as error:
                with self._changed:
                    self._count(data, error.strerror or str(error))
            else:
                self._reported += missing
                self.error = ""

    def _count(self, data: bytes, error: str) -> None:
        self.lost += data.count(b"\n") or 1
        self.error = error


def _write_all(descriptor: int, data: bytes) -> None:
    """Write everything. There is no buffer: after an error, a buffered stream would repeat what it could not write."""
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
