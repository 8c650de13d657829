"""The outcome of an attempt."""

from __future__ import annotations

from enum import StrEnum


class Outcome(StrEnum):
    """What became of an attempt."""

    OK = "ok"
    FAILED = "failed"
    """It certainly had no effect, or certainly failed."""
    UNKNOWN = "unknown"
    """It may or may not have happened: look, do not repeat."""
