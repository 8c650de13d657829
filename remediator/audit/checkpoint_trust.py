"""Selects the trusted checkpoints, and reports the problems of the other checkpoints."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import StrEnum

from msgspec import Struct

from remediator.audit import checkpoint
from remediator.audit.checkpoint import Checkpoint
from remediator.audit.signed_note import BadNote, BadSignature, UnknownKey, Verifier


class Problem(StrEnum):
    """Everything that can be wrong with a log. The value is part of ``audit verify --format json``."""

    UNREADABLE = "unreadable"
    CHANGED = "changed"
    MISLABELLED = "mislabelled"
    MISSING = "missing"
    REPEATED = "repeated"
    OUT_OF_ORDER = "out_of_order"
    UNCHAINED = "unchained"
    UNKNOWN_KIND = "unknown_kind"
    FUTURE = "future"
    TRUNCATED = "truncated"
    REWRITTEN = "rewritten"
    FORGED = "forged"
    UNTRUSTED = "untrusted"
    SPLIT = "split"
    EMPTIED = "emptied"
    STATE = "state"
    """The state in the database differs from the log."""


class Finding(Struct, frozen=True):
    """One problem that verification found."""

    problem: Problem
    seq: int | None
    """Number of the first bad entry, or None if the problem is not in an entry."""
    message: str


class TrustedCheckpoints(Struct, frozen=True):
    """The trusted checkpoints, ordered by size, and the findings about the other checkpoints."""

    checkpoints: tuple[Checkpoint, ...]
    findings: tuple[Finding, ...]
    remarks: tuple[str, ...]


def select_trusted(notes: Iterable[str], keys: Sequence[Verifier], origin: str | None = None) -> TrustedCheckpoints:
    """Select the checkpoints that a trusted key signed for this log.

    Findings: a wrong signature; two checkpoints of one size with different roots; no trusted checkpoint at all; several
    logs. Remarks: a damaged note; a note of an unknown key; a note of another log than ``origin``.
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
            remarks.append(f"Checkpoint {given} was ignored: {error}.")
        else:
            if origin is not None and point.origin != origin:
                remarks.append(f"Checkpoint {given} was ignored: it belongs to the log {point.origin!r}.")
            elif found.setdefault((point.origin, point.size), point).root != point.root:
                message = (
                    f"two checkpoints for {point.size} entries have different roots: the key signed two histories."
                )
                findings.append(Finding(Problem.SPLIT, None, message))
    points = sorted(found.values(), key=lambda point: point.size)
    if given and not points and not findings:
        message = f"none of the {given} given checkpoints can be trusted."
        findings.append(Finding(Problem.UNTRUSTED, None, message))
    origins = sorted({point.origin for point in points})
    if len(origins) > 1:
        message = (
            f"the checkpoints belong to several logs ({', '.join(origins)}); give the checkpoints of one log only."
        )
        findings.append(Finding(Problem.UNTRUSTED, None, message))
    return TrustedCheckpoints(tuple(points), tuple(findings), tuple(remarks))
