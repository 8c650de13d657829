"""The output of calls that are running, in the memory of the process that makes them. It is shown, never stored."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from remediator.clients.host import process

MAX_KEPT = 32 * 1024
"""Bytes of the output of one call that are kept, from its end."""


@dataclass(slots=True)
class LiveOutputs:
    """The output of each running call, by the ID of its attempt."""

    _kept: dict[str, bytes] = field(default_factory=dict)

    @contextmanager
    def follow(self, attempt_id: str) -> Iterator[None]:
        """Keep the output of the programs that this task runs, until the end of the block."""

        def add(piece: bytes) -> None:
            self._kept[attempt_id] = (self._kept[attempt_id] + piece)[-MAX_KEPT:]

        self._kept[attempt_id] = b""
        token = process.output_follower.set(add)
        try:
            yield
        finally:
            process.output_follower.reset(token)
            self._kept.pop(attempt_id, None)

    def lines(self, attempt_id: str) -> list[str] | None:
        """Return the complete lines of the output so far; None if this process does not make the call.

        An incomplete line is left out: redaction would not recognise half of a secret.
        """
        kept = self._kept.get(attempt_id)
        if kept is None:
            return None
        lines = kept.decode(errors="replace").split("\n")[:-1]
        return lines[1:] if len(kept) == MAX_KEPT else lines
