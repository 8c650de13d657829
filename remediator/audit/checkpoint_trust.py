"""Which of many checkpoints can be believed, and what is wrong with the others."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import StrEnum

from msgspec import Struct

from remediator.audit import checkpoint
from remediator.audit.checkpoint import Checkpoint
from remediator.audit.signed_note import BadNote, BadSignature, UnknownKey, Verifier


class Problem(StrEnum):
    """Everything that can be wrong with a log."""

    UNREADABLE = "unreadable"
    CHANGED = "changed"
    MISLABELLED = "mislabelled"
    MISSING = "missing"
    REPEATED = "repeated"
    OUT_OF_ORDER = "out_of_order"
    UNCHAINED = "unchained"
    FUTURE = "future"
    TRUNCATED = "truncated"
    REWRITTEN = "rewritten"
    FORGED = "forged"
    UNTRUSTED = "untrusted"
    SPLIT = "split"


class Finding(Struct, frozen=True):
    """One thing that is wrong."""

    problem: Problem
    seq: int | None
    """The first bad entry, where one can be named."""
    message: str


class Trusted(Struct, frozen=True):
    """Checkpoints that can be believed, by size."""

    checkpoints: tuple[Checkpoint, ...]
    findings: tuple[Finding, ...]
    remarks: tuple[str, ...]


def trust(notes: Iterable[str], keys: Sequence[Verifier], origin: str | None = None) -> Trusted:
    """Sort out signed notes: those of a trusted key and of this log are believed.

    A wrong signature, a second history for one size, and checkpoints of which none can be believed are findings. A
    note that is torn, of a key that is not known, or of another log (when it is known which one is meant) is a
    remark.
    """
    found: dict[tuple[str, int], Checkpoint] = {}
    findings: list[Finding] = []
    remarks: list[str] = []
    given = 0
    for given, note in enumerate(notes, 1):
        try:
            point = checkpoint.verify(note, keys)
        except BadSignature as error:
            findings.append(Finding(Problem.FORGED, None, f"checkpoint {given} is forged: {error}."))
        except (UnknownKey, BadNote) as error:
            remarks.append(f"Checkpoint {given} was passed over: {error}.")
        else:
            if origin is not None and point.origin != origin:
                remarks.append(f"Checkpoint {given} was passed over: it is of the log {point.origin}.")
            elif found.setdefault((point.origin, point.size), point).root != point.root:
                findings.append(_split(point))
    return _judge(list(found.values()), given, findings, remarks)


def _split(point: Checkpoint) -> Finding:
    message = f"two checkpoints for {point.size} entries have different roots: the log's key signed two histories."
    return Finding(Problem.SPLIT, None, message)


def _judge(points: list[Checkpoint], given: int, findings: list[Finding], remarks: list[str]) -> Trusted:
    if given and not points and not findings:
        message = f"none of the {given} checkpoints that were given can be believed."
        findings.append(Finding(Problem.UNTRUSTED, None, message))
    origins = sorted({point.origin for point in points})
    if len(origins) > 1:
        message = f"the checkpoints are of several logs ({', '.join(origins)}); it must be said which is meant."
        findings.append(Finding(Problem.UNTRUSTED, None, message))
    return Trusted(tuple(sorted(points, key=lambda point: point.size)), tuple(findings), tuple(remarks))
