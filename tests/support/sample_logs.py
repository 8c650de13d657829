"""Small logs to attack, and strategies for JSON that the audit log can contain."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from hypothesis import strategies as st
from msgspec import structs

from remediator.audit import GENESIS, Draft, Head, Kind, SealedEntry, Signer, Verification, checkpoint, seal, verify
from remediator.audit.merkle import CompactRange, leaf_hash
from remediator.audit.verification import Anchors

ORIGIN = "remediator.example/log"
START = datetime(2026, 3, 1, 3, 0, tzinfo=UTC)
SIGNER = Signer.generate(ORIGIN)
KEYS = [SIGNER.verifier]

KINDS = [kind for kind in Kind if kind is not Kind.CHECKPOINT_SIGNED]
"""All kinds except the one whose data is checked: it needs the root of the log before it."""


def draft(number: int, **data: object) -> Draft:
    """Return a plausible entry. Every second one is ASCII, because ASCII entries are verified by a faster method."""
    return Draft(
        KINDS[number % len(KINDS)],
        "remediator/a",
        run=f"run-{number // 3}" if number % 5 else None,
        episode=f"episode-{number // 7}",
        playbook="redis-down",
        plan_hash="sha256:" + "a" * 64,
        reason=f"reason {number}",
        data={"number": number, "nested": {"list": [1, True, None, "ü" if number % 2 else "u"]}} | data,
    )


def make(size: int, head: Head = GENESIS, tag: str = "", group: int = 3) -> tuple[list[SealedEntry], Head]:
    """Return a log of this many entries, sealed a few at a time as the store does."""
    rows: list[SealedEntry] = []
    for at in range(0, size, group):
        drafts = [draft(number, tag=tag) for number in range(at, min(at + group, size))]
        more, head = seal(head, drafts, START + timedelta(seconds=head.seq))
        rows += more
    return rows, head


def heads(rows: Sequence[SealedEntry]) -> list[Head]:
    """Return the head of the log after each number of entries, starting with none."""
    found, tree = [GENESIS], CompactRange()
    for row in rows:
        tree.append(row.hash)
        found.append(Head(row.seq, row.hash, tree.dump()))
    return found


def note(head: Head, signer: Signer = SIGNER) -> str:
    """Return a signed checkpoint."""
    return checkpoint.sign(ORIGIN, head, [signer])


def rechain(rows: Sequence[SealedEntry], changed: Mapping[int, bytes]) -> list[SealedEntry]:
    """Return the log with other bytes for some entries and all hashes computed again, as a skilled attacker would."""
    result: list[SealedEntry] = []
    for row in rows:
        canonical = changed.get(row.seq, row.canonical)
        if result:
            canonical = canonical.replace(rows[len(result) - 1].hash.hex().encode(), result[-1].hash.hex().encode())
        result.append(structs.replace(row, canonical=canonical, hash=leaf_hash(canonical)))
    return result


def check(rows: Iterable[SealedEntry], *notes: str, head: Head | None = None) -> Verification:
    """Verify with the key of these logs. The quick and the strict method must agree."""
    rows, now = list(rows), START + timedelta(days=1)
    quick, strict = (verify(rows, Anchors(notes, KEYS), head=head, now=now, strict=strict) for strict in (False, True))
    assert quick == strict
    return quick


text = st.text(st.characters(codec="utf-8"), max_size=20)
plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=12,
)
"""All JSON that the data of a written entry can contain."""
anything = st.recursive(
    plain
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.binary(max_size=8)
    | st.datetimes(timezones=st.just(UTC)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4) | st.tuples(inner, inner),
    max_leaves=12,
)
"""All values that the data of a draft can contain."""
