"""Verifying a log: does every entry say what was written, does each follow the one before, do checkpoints agree?

What a chain alone cannot show is that its end was cut off, or that all of it was written anew; that takes checkpoints
kept elsewhere. So a verification says, besides what is wrong, what it could not have seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from hashlib import sha256
from itertools import islice
from typing import Any

from msgspec import Struct

from remediator.audit.canonical import NotCanonical, decode, decode_frame, decode_whole, encode_ascii_into
from remediator.audit.chain import GENESIS, Head
from remediator.audit.checkpoint_trust import Finding, Problem, Trusted, trust
from remediator.audit.entry import EPOCH, Entry, SealedEntry, Written
from remediator.audit.export_diagnosis import strange
from remediator.audit.merkle import Range, leaf_hash
from remediator.audit.signed_note import Verifier
from remediator.core.clock import rfc3339

TOLERANCE = timedelta(minutes=5)
"""How far ahead of the verifier's clock an entry's time may be."""
_LOOK_AHEAD = 10_000
_BLOCK = 1024

__all__ = ["Finding", "Problem", "Verification", "verify"]


class Verification(Struct, frozen=True):
    """What a verification found. It holds when there are no findings; remarks say how far it could see."""

    first: int
    """Number of the first entry that was looked at; 0 if there were none."""
    last: int
    """Number of the last entry up to which the chain holds (a checkpoint may still disagree)."""
    hash: str
    """Hash of that entry, in hex."""
    root: str
    """Merkle root up to that entry, in hex."""
    checkpoints: tuple[int, ...]
    """Sizes of the checkpoints that agree."""
    findings: tuple[Finding, ...]
    remarks: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.findings

    def sentence(self) -> str:
        """The result in one sentence."""
        if self.findings:
            return f"The audit log does not verify: {self.findings[0].message}"
        if not self.first:
            return f"The audit log verifies: {f'nothing follows entry {self.last}' if self.last else 'it is empty'}."
        agree = f", and {len(self.checkpoints)} checkpoints agree" if self.checkpoints else ""
        return f"The audit log verifies: entries {self.first} to {self.last} are as they were written{agree}."


def verify(
    entries: Iterable[SealedEntry],
    checkpoints: Iterable[str] = (),
    keys: Sequence[Verifier] = (),
    *,
    start: Head = GENESIS,
    head: Head | None = None,
    now: datetime | None = None,
    origin: str | None = None,
    strict: bool = False,
) -> Verification:
    """Read the log once, in constant memory, and stop at the first entry that is not right.

    Args:
        entries: in the order in which they stand.
        checkpoints: signed notes, in any order.
        keys: whose signatures count; after a change of keys, the old ones too.
        start: where the entries begin, when what is before is not given.
        head: where the database says that the log ends.
        now: when given, entries from later than this (and :data:`TOLERANCE`) are refused.
        origin: of which log the checkpoints must be.
        strict: also look whether what stands inside an entry's data is spelled canonically. No change to an entry
            needs this to be found; only who wrote the whole log could have written, say, a key twice.
    """
    latest = rfc3339(now + TOLERANCE) if now else "~"
    walk = _Walk(trust(checkpoints, keys, origin), start, latest, strict)
    walk.read(iter(entries))
    walk.end(head)
    return walk.result()


class _Walk:
    def __init__(self, trusted: Trusted, start: Head, latest: str, strict: bool) -> None:
        self.findings, self.remarks = list(trusted.findings), list(trusted.remarks)
        self._due = [point for point in trusted.checkpoints if point.size >= start.seq]
        if len(self._due) < len(trusted.checkpoints):
            self.remarks.append(f"Checkpoints of fewer than {start.seq} entries could not be compared.")
        self._agreed: list[int] = []
        self._start = start.seq
        self._seq, self._last = start.seq, start.hash
        self._tree = Range.load(start.seq, start.tree)
        self._leaves: list[bytes] = []
        self._latest = latest
        self._strict = strict
        self._written, self._time = "", EPOCH
        self._backwards = 0
        self._broken = False

    def read(self, rows: Iterator[SealedEntry]) -> None:
        """All entries, or up to the first that is wrong."""
        self._compare()
        while not self._broken:
            # up to the next checkpoint, or a block, so that the loop over entries has nothing else to think of
            room = min(self._due[0].size - self._seq, _BLOCK) if self._due else _BLOCK
            before = self._seq
            bad = self._block(islice(rows, room))
            self._tree.extend(self._leaves)
            self._leaves.clear()
            if bad is not None:
                self._fail(self._diagnose(bad, rows))
            elif self._seq == before:
                return
            self._compare()

    def _block(self, rows: Iterator[SealedEntry]) -> SealedEntry | None:
        """The loop over all entries, written for speed: it only tells which row is not right, not why."""
        seq, leaf, link = self._seq, self._last, self._last.hex()
        written, time, latest, leaves = self._written, self._time, self._latest, self._leaves
        entry: Written[Any]
        buffer, instant = bytearray(), datetime.fromisoformat
        read: Callable[[bytes], Written[Any]] = decode_whole if self._strict else decode_frame
        try:
            for row in rows:
                canonical = row.canonical
                digest = sha256(b"\x00" + canonical).digest()
                if canonical.isascii():  # then the encoder is RFC 8785, whatever it was given, and needs no copy
                    entry = read(canonical)
                    encode_ascii_into(entry, buffer)
                    if buffer != canonical:
                        return row
                else:
                    entry = decode(canonical)
                if (
                    digest != row.hash
                    or entry.prev != link
                    or not entry.seq == row.seq == seq + 1
                    or entry.kind != row.kind
                    or entry.run != row.run
                    or entry.episode != row.episode
                ):
                    return row
                if entry.written != written or row.time != time:  # what was written together has one time
                    if entry.written > latest or len(entry.written) != 27 or instant(entry.written) != row.time:
                        return row
                    if entry.written < written and not self._backwards:
                        self._backwards = entry.seq
                    written, time = entry.written, row.time
                seq, leaf, link = seq + 1, digest, digest.hex()
                leaves.append(digest)
        except (NotCanonical, ValueError, RecursionError):
            return row
        finally:
            self._seq, self._last, self._written, self._time = seq, leaf, written, time
        return None

    def _diagnose(self, row: SealedEntry, rest: Iterator[SealedEntry]) -> Finding:
        if not row.hash:
            what = "an entry without its hash" if row.kind else strange(row.canonical)
            return Finding(Problem.UNREADABLE, row.seq, f"where entry {row.seq} should be is something else: {what}.")
        if leaf_hash(row.canonical) != row.hash:
            return Finding(
                Problem.CHANGED,
                row.seq,
                f"entry {row.seq} was changed: its bytes do not give the hash that is stored with it.",
            )
        try:
            entry = decode(row.canonical)
        except NotCanonical as error:
            return Finding(Problem.UNREADABLE, row.seq, f"entry {row.seq} is not what this log writes: {error}.")
        return self._misplaced(row, entry, rest) or self._wrong(row, entry)

    def _misplaced(self, row: SealedEntry, entry: Entry, rest: Iterator[SealedEntry]) -> Finding | None:
        expected = self._seq + 1
        if entry.seq != row.seq:
            return Finding(
                Problem.OUT_OF_ORDER, row.seq, f"the row numbered {row.seq} holds entry {entry.seq}: they were swapped."
            )
        if row.seq < expected:
            return Finding(
                Problem.REPEATED,
                row.seq,
                f"after entry {self._seq} stands one numbered {row.seq} (again, or inserted).",
            )
        if row.seq > expected:
            if any(later.seq == expected for later in islice(rest, _LOOK_AHEAD)):
                return Finding(
                    Problem.OUT_OF_ORDER, row.seq, f"entry {row.seq} stands before entry {expected}: order was changed."
                )
            gone = f"entry {expected} is" if row.seq == expected + 1 else f"entries {expected} to {row.seq - 1} are"
            return Finding(Problem.MISSING, expected, f"{gone} missing: after entry {self._seq} comes entry {row.seq}.")
        return None

    def _wrong(self, row: SealedEntry, entry: Entry) -> Finding:
        if entry.prev != self._last.hex():
            return Finding(
                Problem.UNCHAINED,
                row.seq,
                f"entry {row.seq} does not follow the entry {self._seq} that stands before it: "
                "one of the two was replaced.",
            )
        if entry.written > self._latest:
            return Finding(Problem.FUTURE, row.seq, f"entry {row.seq} is from {entry.written}, which is yet to come.")
        return Finding(
            Problem.MISLABELLED,
            row.seq,
            f"entry {row.seq} is filed under another time, kind, run or episode than it says.",
        )

    def _compare(self) -> None:
        while self._due and self._due[0].size == self._seq and not self._broken:
            point = self._due.pop(0)
            if point.root == self._tree.root():
                self._agreed.append(point.size)
                continue
            good = self._agreed[-1] if self._agreed else self._start
            self._fail(
                Finding(
                    Problem.REWRITTEN,
                    good + 1,
                    f"the first {point.size} entries are not those that a checkpoint was signed for: "
                    f"among entries {good + 1} to {point.size} at least one was replaced, and the chain written anew.",
                )
            )

    def _fail(self, finding: Finding) -> None:
        self.findings.append(finding)
        self._broken = True

    def end(self, head: Head | None) -> None:
        """What can only be said when all entries are read."""
        if self._broken:
            if self._due:
                self.remarks.append(f"{len(self._due)} checkpoints of more entries could not be compared.")
            return
        if self._due:
            signed = self._due[-1].size
            self._fail(
                self._cut_off(
                    signed,
                    f"a checkpoint was signed for {signed}, so its end was cut off, "
                    "or this is an old copy of the database",
                )
            )
        elif head is not None:
            self._check_head(head)
        self._say_what_is_not_covered()

    def _cut_off(self, wanted: int, why: str) -> Finding:
        gone = f"entry {wanted} is" if wanted == self._seq + 1 else f"entries {self._seq + 1} to {wanted} are"
        return Finding(
            Problem.TRUNCATED, self._seq + 1, f"{gone} missing: the log ends at entry {self._seq}, but {why}."
        )

    def _check_head(self, head: Head) -> None:
        here = Head(self._seq, self._last, self._tree.dump())
        if here == head:
            return
        if head.seq > self._seq:
            self._fail(self._cut_off(head.seq, f"its head is at entry {head.seq}, so its end was cut off"))
        else:
            self._fail(
                Finding(
                    Problem.REWRITTEN,
                    min(head.seq + 1, self._seq),
                    f"the log ends at entry {self._seq}, but its head names another end (entry {head.seq}): "
                    "entries were replaced or added past the sequencer.",
                )
            )

    def _say_what_is_not_covered(self) -> None:
        if self._start:
            which = "Entry 1 was" if self._start == 1 else f"Entries 1 to {self._start} were"
            self.remarks.append(f"{which} not looked at: what was given begins after that.")
        covered = self._agreed[-1] if self._agreed else 0
        if not covered:
            self.remarks.append("No checkpoint was compared: a log rewritten as a whole, or cut off, would look good.")
        elif covered < self._seq:
            self.remarks.append(f"Entries {covered + 1} to {self._seq} are after the newest checkpoint.")
        if self._backwards:
            self.remarks.append(f"At entry {self._backwards} the time goes back: a clock was set, or replicas differ.")

    def result(self) -> Verification:
        """Everything that was found."""
        return Verification(
            first=self._start + 1 if self._seq > self._start else 0,
            last=self._seq,
            hash=self._last.hex(),
            root=self._tree.root().hex(),
            checkpoints=tuple(self._agreed),
            findings=tuple(self.findings),
            remarks=tuple(self.remarks),
        )
