"""Verification of a log: is every entry unchanged, does each follow the previous one, do the checkpoints agree?

The chain alone cannot show that its end was cut off, or that the whole log was rewritten. Only checkpoints on another
system show this. A verification therefore reports problems, and also the parts that it could not check.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from itertools import islice
from typing import Any

from msgspec import Struct

from remediator.audit.canonical import NotCanonical, decode, decode_frame, decode_unchecked, encode_ascii_into
from remediator.audit.chain import GENESIS, Head
from remediator.audit.checkpoint_trust import Finding, Problem, TrustedCheckpoints, select_trusted
from remediator.audit.entry import EPOCH, Entry, Kind, SealedEntry, Written
from remediator.audit.export_diagnosis import describe_line
from remediator.audit.merkle import CompactRange, leaf_hash
from remediator.audit.recorded_checkpoints import RecordedCheckpoints
from remediator.audit.signed_note import Verifier
from remediator.core.clock import rfc3339

CLOCK_TOLERANCE = timedelta(minutes=5)
"""How far the time of an entry may be ahead of the clock of the verifier."""
_LOOK_AHEAD = 10_000
_BLOCK = 1024
_KINDS = frozenset(kind.value for kind in Kind)
_SIGNED = Kind.CHECKPOINT_SIGNED.value

__all__ = ["Finding", "Problem", "Verification", "verify"]


class Verification(Struct, frozen=True):
    """The result of a verification.

    Without findings, the log verifies. Remarks name the parts that could not be checked.
    """

    first: int
    """Number of the first entry that was read; 0 if no entry was read."""
    last: int
    """Number of the last entry up to which the chain is intact. A checkpoint may still disagree."""
    hash: str
    """Hash of that entry, in hex."""
    root: str
    """Merkle root up to that entry, in hex."""
    checkpoints: tuple[int, ...]
    """Sizes of the checkpoints from elsewhere that agree."""
    findings: tuple[Finding, ...]
    remarks: tuple[str, ...]

    @property
    def anchored(self) -> bool:
        """Return whether a checkpoint that is kept outside of the database agrees."""
        return bool(self.checkpoints)

    @property
    def ok(self) -> bool:
        """Return whether there are no findings."""
        return not self.findings

    def summary(self) -> str:
        """Return the result in one sentence."""
        if self.findings:
            return f"The audit log does not verify: {self.findings[0].message}"
        found = f"entries {self.first} to {self.last} are unchanged"
        if not self.first:
            found = f"there is no entry after {self.last}" if self.last else "it is empty"
        if self.anchored:
            return f"The audit log verifies: {found}, and {len(self.checkpoints)} checkpoints agree."
        return (
            f"The audit log has no finding: {found}. But no checkpoint from outside of the database was compared, so a "
            "rewritten log or a missing end would not be detected."
        )


@dataclass(frozen=True, slots=True)
class Anchors:
    """The checkpoints that a log is compared with."""

    checkpoints: Iterable[str] = ()
    """Signed notes from outside of the database, in any order."""
    keys: Sequence[Verifier] = ()
    """The trusted keys; after a key change, also the old keys."""
    stored: Sequence[str] = ()
    """The checkpoints that the database itself stores. They are compared, but they do not anchor the log."""
    origin: str | None = None
    """The log that the checkpoints must belong to."""


NO_ANCHORS = Anchors()


def verify(
    entries: Iterable[SealedEntry],
    anchors: Anchors = NO_ANCHORS,
    *,
    start: Head = GENESIS,
    head: Head | None = None,
    now: datetime | None = None,
    strict: bool = False,
) -> Verification:
    """Verify a log. Read it once, in constant memory, and stop at the first bad entry.

    Args:
        entries: in log order.
        anchors: the checkpoints to compare it with.
        start: the head before the first entry, if the entries before it are not given.
        head: the end of the log according to the database.
        now: if given, entries later than this plus :data:`CLOCK_TOLERANCE` are a finding.
        strict: also check that the data inside each entry is canonical. Changes to an entry are found without it. Only
            the writer of the whole log could have written, for example, the same key twice.
    """
    latest = rfc3339(now + CLOCK_TOLERANCE) if now else "~"
    keys, origin = anchors.keys, anchors.origin
    trusted = select_trusted(anchors.checkpoints, keys, origin)
    own = select_trusted(anchors.stored, keys, origin) if keys else TrustedCheckpoints((), (), ())
    verifier = _LogVerifier(trusted, own, keys, start, latest, strict)
    verifier.read(iter(entries))
    verifier.finish(head)
    return verifier.result()


class _LogVerifier:
    def __init__(
        self,
        trusted: TrustedCheckpoints,
        own: TrustedCheckpoints,
        keys: Sequence[Verifier],
        start: Head,
        latest: str,
        strict: bool,
    ) -> None:
        self.findings, self.remarks = [*trusted.findings, *own.findings], [*trusted.remarks, *own.remarks]
        self._elsewhere = {point.size for point in trusted.checkpoints}
        points = sorted((*trusted.checkpoints, *own.checkpoints), key=lambda point: point.size)
        self._due = [point for point in points if point.size >= start.seq]
        if len(self._due) < len(points):
            self.remarks.append(
                f"Checkpoints of fewer than {start.seq} entries were not compared: those entries were not given."
            )
        self._agreed: list[int] = []
        self._start = start.seq
        self._seq, self._last = start.seq, start.hash
        self._tree = CompactRange.load(start.seq, start.tree)
        self._leaves: list[bytes] = []
        self._latest = latest
        self._strict = strict
        self._written, self._time = "", EPOCH
        self._backwards = 0
        self._broken = False
        self._recorded = RecordedCheckpoints(keys)
        self._has_keys = bool(keys)

    def read(self, rows: Iterator[SealedEntry]) -> None:
        """Read all entries, or up to the first bad one."""
        self._compare_checkpoints()
        while not self._broken:
            # read up to the next checkpoint or one block, so that the inner loop need not look at checkpoints
            room = min(self._due[0].size - self._seq, _BLOCK) if self._due else _BLOCK
            before = self._seq
            bad = self._read_block(islice(rows, room))
            differs = self._recorded.compare(before, self._tree.dump(), self._leaves)
            self._tree.extend(self._leaves)
            self._leaves.clear()
            if differs is not None:
                self._fail(differs)
                return
            if bad is not None:
                self._fail(self._diagnose(bad, rows))
            elif self._seq == before:
                return
            self._compare_checkpoints()

    def _read_block(self, rows: Iterator[SealedEntry]) -> SealedEntry | None:
        """Return the first bad row, or None. Optimised for speed: it does not report the reason."""
        seq, leaf, link = self._seq, self._last, self._last.hex()
        written, time, latest, leaves = self._written, self._time, self._latest, self._leaves
        entry: Written[Any]
        buffer, instant = bytearray(), datetime.fromisoformat
        read: Callable[[bytes], Written[Any]] = decode_unchecked if self._strict else decode_frame
        try:
            for row in rows:
                canonical = row.canonical
                digest = sha256(b"\x00" + canonical).digest()
                if canonical.isascii():  # for ASCII the fast encoder equals RFC 8785, and no copy is needed
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
                    or entry.kind not in _KINDS
                    or entry.run != row.run
                    or entry.episode != row.episode
                ):
                    return row
                if entry.written != written or row.time != time:  # entries of one transaction share one time
                    if entry.written > latest or len(entry.written) != 27 or instant(entry.written) != row.time:
                        return row
                    if entry.written < written and not self._backwards:
                        self._backwards = entry.seq
                    written, time = entry.written, row.time
                seq, leaf, link = seq + 1, digest, digest.hex()
                leaves.append(digest)
                if entry.kind == _SIGNED:
                    self._recorded.add(seq, entry.data)
        except (NotCanonical, ValueError, RecursionError):
            return row
        finally:
            self._seq, self._last, self._written, self._time = seq, leaf, written, time
        return None

    def _diagnose(self, row: SealedEntry, rest: Iterator[SealedEntry]) -> Finding:
        if not row.hash:
            what = "an entry without its hash" if row.kind else describe_line(row.canonical)
            return Finding(Problem.UNREADABLE, row.seq, f"found something else in place of entry {row.seq}: {what}.")
        if leaf_hash(row.canonical) != row.hash:
            return Finding(
                Problem.CHANGED,
                row.seq,
                f"entry {row.seq} was changed: its content does not match its hash.",
            )
        try:
            entry = decode(row.canonical)
        except NotCanonical as error:
            return Finding(Problem.UNREADABLE, row.seq, f"entry {row.seq} was not written by the service: {error}.")
        return self._find_misplaced(row, entry, rest) or self._find_wrong(row, entry)

    def _find_misplaced(self, row: SealedEntry, entry: Entry, rest: Iterator[SealedEntry]) -> Finding | None:
        expected = self._seq + 1
        if entry.seq != row.seq:
            return Finding(
                Problem.OUT_OF_ORDER, row.seq, f"row {row.seq} contains entry {entry.seq}: the entries were swapped."
            )
        if row.seq < expected:
            return Finding(
                Problem.REPEATED,
                row.seq,
                f"entry {self._seq} is followed by an entry with the number {row.seq}: it was repeated or inserted.",
            )
        if row.seq > expected:
            if any(later.seq == expected for later in islice(rest, _LOOK_AHEAD)):
                return Finding(
                    Problem.OUT_OF_ORDER,
                    row.seq,
                    f"entry {row.seq} comes before entry {expected}: the order was changed.",
                )
            gone = f"entry {expected} is" if row.seq == expected + 1 else f"entries {expected} to {row.seq - 1} are"
            return Finding(
                Problem.MISSING, expected, f"{gone} missing: entry {self._seq} is followed by entry {row.seq}."
            )
        return None

    def _find_wrong(self, row: SealedEntry, entry: Entry) -> Finding:
        if entry.prev != self._last.hex():
            return Finding(
                Problem.UNCHAINED,
                row.seq,
                f"entry {row.seq} does not contain the hash of entry {self._seq} before it: one of them was replaced.",
            )
        if entry.kind not in _KINDS:
            return Finding(
                Problem.UNKNOWN_KIND,
                row.seq,
                f"entry {row.seq} has the unknown kind {entry.kind!r}: it was not written by the service, or by a "
                "newer version; verify it with that version.",
            )
        if entry.written > self._latest:
            return Finding(Problem.FUTURE, row.seq, f"entry {row.seq} has a time in the future: {entry.written}.")
        return Finding(
            Problem.MISLABELLED,
            row.seq,
            f"entry {row.seq} has another time, kind, run or episode in its index than in its content.",
        )

    def _compare_checkpoints(self) -> None:
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
                    f"the first {point.size} entries differ from a signed checkpoint. At least one of the entries "
                    f"{good + 1} to {point.size} was replaced, and the hashes after it were recomputed.",
                )
            )

    def _fail(self, finding: Finding) -> None:
        self.findings.append(finding)
        self._broken = True

    def finish(self, head: Head | None) -> None:
        """Check the end of the log, after all entries were read."""
        if self._broken:
            if self._due:
                self.remarks.append(f"{len(self._due)} checkpoints of more entries were not compared.")
            return
        if self._due:
            signed = self._due[-1].size
            why = f"a checkpoint covers {signed} entries: the end was cut off, or this is an old copy of the database"
            self._fail(self._truncated(signed, why))
        elif head is not None:
            self._check_head(head)
        # Say what was not checked, and where the time goes back.
        if self._start:
            which = "Entry 1 was" if self._start == 1 else f"Entries 1 to {self._start} were"
            self.remarks.append(f"{which} not checked: the given entries begin later.")
        covered = max(self._elsewhere.intersection(self._agreed), default=0)
        if 0 < covered < self._seq:
            self.remarks.append(f"Entries {covered + 1} to {self._seq} are newer than the newest checkpoint.")
        if self._has_keys and not covered and self._seq and not self._recorded.signed:
            self.remarks.append("The log itself contains no signed checkpoint.")
        if self._recorded.too_old:
            self.remarks.append(
                f"The root in entry {self._recorded.too_old} was not compared: it is of entries too far back."
            )
        if self._backwards:
            self.remarks.append(
                f"The time goes back at entry {self._backwards}: a clock was set, or the clocks of replicas differ."
            )

    def _truncated(self, wanted: int, why: str) -> Finding:
        gone = f"entry {wanted} is" if wanted == self._seq + 1 else f"entries {self._seq + 1} to {wanted} are"
        return Finding(
            Problem.TRUNCATED, self._seq + 1, f"{gone} missing: the log ends at entry {self._seq}, but {why}."
        )

    def _check_head(self, head: Head) -> None:
        here = Head(self._seq, self._last, self._tree.dump())
        if here == head:
            return
        if head.seq > self._seq:
            self._fail(self._truncated(head.seq, f"the database records {head.seq} entries: the end was cut off"))
        else:
            self._fail(
                Finding(
                    Problem.REWRITTEN,
                    min(head.seq + 1, self._seq),
                    f"the log ends at entry {self._seq}, but the database records another end (entry {head.seq}): "
                    "entries were replaced or added without the service.",
                )
            )

    def result(self) -> Verification:
        """Return the result."""
        return Verification(
            first=self._start + 1 if self._seq > self._start else 0,
            last=self._seq,
            hash=self._last.hex(),
            root=self._tree.root().hex(),
            checkpoints=tuple(size for size in self._agreed if size in self._elsewhere),
            findings=tuple(self.findings),
            remarks=tuple(self.remarks),
        )
