"""The witness contract. A witness stores signed checkpoints where the remediator cannot rewrite them.

A checkpoint proves something only if the witness is independent of the database. Checkpoints are published in the order
in which the log grows. Publishing one twice has the same result as publishing it once, also after a crash.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from remediator.audit.checkpoint import Checkpoint
from remediator.audit.signed_note import BadNote, split
from remediator.errors import RemediatorError


class WitnessError(RemediatorError):
    """A checkpoint could not be stored or read. A retry may succeed."""


class WitnessConflict(WitnessError):
    """A stored checkpoint contradicts this one: it has more entries, or a different root for the same size.

    Either the database was restored or rewritten, or another replica published first. The caller compares its own log.
    """


class Witness(ABC):
    """Base class of a witness. ``tests/support/witness_suite.py`` tests every implementation."""

    kind: str

    @abstractmethod
    async def publish(self, note: str) -> str:
        """Store a signed note durably and return its location.

        Raises:
            WitnessError: the note may not be stored.
            WitnessConflict: a stored note contradicts it.
            BadNote: the note is not a checkpoint.
        """

    @abstractmethod
    async def fetch(self) -> list[str]:
        """Return all stored notes, oldest first, for verification.

        Raises:
            WitnessError: the notes cannot be read.
        """


@dataclass(frozen=True, slots=True)
class WitnessFactory:
    """Creates a witness from its settings."""

    Settings: type[BaseModel]
    """Model of the settings. A file with a secret has the type ``SecretFile``, and its content is then redacted."""
    make: Callable[[Mapping[str, Any]], Witness]
    """Called with the settings that are given, with absolute paths. ``channel`` is the notifier of this channel."""


def is_latest(stored: Sequence[str], note: str) -> bool:
    """Return whether the newest stored note is this note.

    Raises:
        WitnessConflict: the newest stored note has more entries, or another root for the same size.
        BadNote: ``note`` is not a checkpoint.
    """
    new = parse_note(note)
    if not stored:
        return False
    try:
        old = parse_note(stored[-1])
    except BadNote as error:
        raise WitnessConflict(f"the newest stored note is not a checkpoint: {error}") from error
    if old.origin != new.origin:
        raise WitnessConflict(f"the witness stores checkpoints of the log {old.origin!r}, not of {new.origin!r}")
    if old.size > new.size:
        raise WitnessConflict(
            f"the newest stored checkpoint has {old.size} entries, this one has {new.size}: "
            "the database was restored from a backup, or another replica published first"
        )
    if old.size == new.size and old.root != new.root:
        raise WitnessConflict(f"the stored checkpoint of {old.size} entries has another root: the log was rewritten")
    # Compare the whole text: a crash can cut a note within its signature, and its checkpoint is still readable.
    return stored[-1] == note


def parse_note(note: str) -> Checkpoint:
    """Return the checkpoint in a note. Signatures are not checked."""
    return Checkpoint.parse(split(note)[0])
