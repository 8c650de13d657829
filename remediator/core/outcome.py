"""Outcomes of attempts."""

from __future__ import annotations

from enum import StrEnum


class Outcome(StrEnum):
    """The outcome of an attempt."""

    OK = "ok"
    FAILED = "failed"
    """The call certainly had no effect, or certainly failed."""
    UNKNOWN = "unknown"
    """The call may have taken effect: observe the target, do not repeat the call."""
