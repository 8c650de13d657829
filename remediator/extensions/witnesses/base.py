"""Notaries: places that keep signed checkpoints where the remediator cannot rewrite them.

A checkpoint is worth as much as the place that keeps it is independent of the database. Each notary is asked to keep
notes, in the order of the log's growth; keeping one twice is the same as keeping it once, also when a crash came in
the middle.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from remediator.audit.checkpoint import Checkpoint
from remediator.audit.signed_note import BadNote, split
from remediator.errors import RemediatorError


class NotaryError(RemediatorError):
    """A checkpoint could not be kept, or could not be read back; it can be tried again."""


class Conflict(NotaryError):
    """The place keeps a checkpoint that speaks against this one: more entries, or another root for as many.

    Either the database was set back or rewritten, or another replica was faster. The caller can tell by its own log.
    """


class Witness(ABC):
    """A place for checkpoints. ``tests/extensions/witnesses`` runs one suite on every implementation."""

    kind: str

    @abstractmethod
    async def publish(self, note: str) -> str:
        """Keep a signed note, durably, and say where it is now.

        Raises:
            NotaryError: not kept as far as can be told.
            Conflict: what is kept already speaks against it.
            BadNote: not a checkpoint.
        """

    @abstractmethod
    async def fetch(self) -> list[str]:
        """Every note that is kept, oldest first; for verifying.

        Raises:
            NotaryError: it cannot be read back, now or ever.
        """


WitnessFactory = Callable[[Mapping[str, Any]], Witness]
"""Makes a witness from its settings."""


def agree(kept: Sequence[str], note: str) -> bool:
    """Whether the newest of the kept notes is this one already.

    Raises:
        Conflict: a kept note has more entries, or as many with another root.
        BadNote: ``note`` is not a checkpoint.
    """
    new = parse(note)
    if not kept:
        return False
    try:
        old = parse(kept[-1])
    except BadNote as error:
        raise Conflict(f"what is kept here is not a checkpoint: {error}") from error
    if old.origin != new.origin:
        raise Conflict(f"here are checkpoints of the log {old.origin}, not of {new.origin}")
    if old.size > new.size:
        raise Conflict(
            f"a checkpoint of {old.size} entries is kept here already, and this one has {new.size}: "
            "the database was set back, or another replica was faster"
        )
    if old.size == new.size and old.root != new.root:
        raise Conflict(f"a checkpoint of {old.size} entries with another root is kept here: the log was rewritten")
    # the whole text counts: of a note that a crash tore within its signature, the checkpoint can still be read
    return kept[-1] == note


def parse(note: str) -> Checkpoint:
    """The checkpoint in a note, whoever signed it."""
    return Checkpoint.parse(split(note)[0])
