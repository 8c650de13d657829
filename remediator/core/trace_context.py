"""The trace of a run: IDs that follow from the ID of the run, and the header ``traceparent`` (W3C Trace Context).

The IDs are computed, not stored. So the header of a call can name a span that is made later, from the audit log.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from hashlib import sha256

_enabled = False
_run: ContextVar[str] = ContextVar("traced_run", default="")


def configure(enabled: bool) -> None:
    """Set whether HTTP requests carry the header."""
    global _enabled  # the composition root sets it before any run is worked on
    _enabled = enabled


def follow(run_id: str) -> None:
    """Let the HTTP requests of this task, and of tasks that it starts, belong to the trace of a run."""
    _run.set(run_id)


def trace_id(run_id: str) -> int:
    """Return the ID of the trace of a run: 128 bits, never 0."""
    return int.from_bytes(sha256(run_id.encode()).digest()[:16]) or 1


def span_id(run_id: str, part: str = "") -> int:
    """Return the ID of a span of the run: 64 bits, never 0. Without a part, return the ID of the whole run."""
    return int.from_bytes(sha256(f"{run_id} {part}".encode()).digest()[:8]) or 1


def traceparent(run_id: str) -> str:
    """Return the value of the header for requests of a run. The flag marks the trace as recorded."""
    return f"00-{trace_id(run_id):032x}-{span_id(run_id):016x}-01"


def headers() -> Mapping[str, str]:
    """Return the header for a request of the current task; empty outside of a run, or without tracing."""
    run_id = _run.get()
    return {"traceparent": traceparent(run_id)} if _enabled and run_id else {}
