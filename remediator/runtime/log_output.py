"""The output of the log. A log that cannot be written never stops a run (promise 14)."""

from __future__ import annotations

import os
from threading import Lock


class LogOutput:
    """Writes lines to a file descriptor, and counts those that cannot be written.

    A full disk or a closed pipe raises on each write. The caller is often the pipeline, between an intent and its
    outcome, so an error of the log must not reach it. There is no buffer: after an error, a buffered stream would keep
    and repeat what it could not write.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lock = Lock()
        self._reported = 0
        self.lost = 0
        """Lines that could not be written since the start."""

    def write(self, text: str) -> int:
        """Write text at once and return its length, also if it is lost. The next success says how much was lost."""
        data = text.encode("utf-8", "backslashreplace")
        with self._lock:
            missing = self.lost - self._reported
            if missing:
                data = f"\n{missing} lines of the log could not be written and are lost\n".encode() + data
            try:
                while data:
                    data = data[os.write(self._descriptor, data) :]
                self._reported = self.lost
            except OSError:
                self.lost += text.count("\n") or 1
        return len(text)

    def flush(self) -> None:
        """Do nothing: nothing is buffered."""
