"""Attacks on the log: verification detects each one, and names the first bad entry and its problem."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from remediator.audit import (
    GENESIS,
    Finding,
    Head,
    Problem,
    SealedEntry,
    Signer,
    Verification,
    checkpoint,
    seal,
    verify,
)
from remediator.audit.export import rebuild
from remediator.audit.merkle import leaf_hash
from remediator.audit.verification import Anchors
from tests.support.sample_logs import KEYS, ORIGIN, START, check, draft, heads, make, note, rechain

pytestmark = pytest.mark.promise(9)

SIZE = 12
ROWS, HEAD = make(SIZE)
HEADS = heads(ROWS)
NOTES = [note(HEADS[size]) for size in (4, 8, SIZE)]


def _first(result: Verification) -> tuple[Problem, int | None]:
    """Return the first problem and its entry number. Check that the message contains the number."""
    assert result.findings and not result.ok
    finding: Finding = result.findings[0]
    assert finding.message.endswith(".") and finding.message in result.summary()
    assert finding.seq is None or str(finding.seq) in finding.message
    return finding.problem, finding.seq


def test_unchanged_log_verifies() -> None:
    """An unchanged log has no findings, every checkpoint agrees, and the result names the last entry."""
    result = check(ROWS, *NOTES, head=HEAD)

    assert result.ok and not result.findings and not result.remarks
    assert (result.first, result.last, result.checkpoints) == (1, SIZE, (4, 8, SIZE))
    assert (result.hash, result.root) == (HEAD.hash.hex(), HEAD.root().hex())
    assert result.summary() == "The audit log verifies: entries 1 to 12 are unchanged, and 3 checkpoints agree."


def test_an_empty_log_verifies() -> None:
    """An empty log verifies unless a checkpoint covers entries."""
    assert check([], head=GENESIS).summary().startswith("The audit log has no finding: it is empty. ")
    assert check([], note(GENESIS)).ok
    assert _first(check([], NOTES[0])) == (Problem.TRUNCATED, 1)


def test_every_flipped_byte_is_found_in_its_entry() -> None:
    """A flipped byte in any entry is found, and the finding has the number of the entry."""
    for row in ROWS:
        raw = bytearray(row.canonical)
        for at in range(len(raw)):
            raw[at] ^= 1 << (at % 8)
            bad = structs.replace(row, canonical=bytes(raw))
            raw[at] ^= 1 << (at % 8)
            assert _first(check([*ROWS[: row.seq - 1], bad, *ROWS[row.seq :]])) == (Problem.CHANGED, row.seq)


def test_every_flipped_bit_of_one_entry_is_found() -> None:
    """A flip of any single bit in the content or the hash of an entry is found."""
    row = ROWS[4]
    for part in ("canonical", "hash"):
        raw = bytearray(getattr(row, part))
        for bit in range(8 * len(raw)):
            raw[bit // 8] ^= 1 << (bit % 8)
            bad = structs.replace(row, **{part: bytes(raw)})
            raw[bit // 8] ^= 1 << (bit % 8)
            assert _first(check([*ROWS[:4], bad, *ROWS[5:]])) == (Problem.CHANGED, 5)


@given(st.integers(1, SIZE), st.data())
def test_a_byte_changed_together_with_its_hash_is_found(seq: int, data: st.DataObject) -> None:
    """If the hash of the entry is recomputed too, the change is found at that entry or the next."""
    row = ROWS[seq - 1]
    at, value = data.draw(st.integers(0, len(row.canonical) - 1)), data.draw(st.integers(0, 255))
    raw = row.canonical[:at] + bytes([value]) + row.canonical[at + 1 :]
    if raw == row.canonical:
        return
    rows = [*ROWS[: seq - 1], structs.replace(row, canonical=raw, hash=leaf_hash(raw)), *ROWS[seq:]]
    for strict in (False, True):  # strict verification also refuses a space inside the data
        _, found = _first(verify(rows, Anchors([NOTES[-1]], KEYS), head=HEAD, strict=strict))
        assert found in (seq, seq + 1) or (seq == SIZE and found == 1)


@pytest.mark.parametrize("seq", range(1, SIZE + 1))
def test_a_dropped_entry_is_named(seq: int) -> None:
    """A gap is reported with the missing number. At the end of the log, the checkpoint or the head shows the loss."""
    rest = [row for row in ROWS if row.seq != seq]
    problem = Problem.TRUNCATED if seq == SIZE else Problem.MISSING

    assert _first(check(rest, *NOTES)) == (problem, seq)
    assert _first(check(rest, head=HEAD)) == (problem, seq)


@pytest.mark.parametrize("seq", range(1, SIZE))
def test_a_dropped_entry_is_found_after_renumbering(seq: int) -> None:
    """Renumbering the entries after the gap breaks the chain there."""
    rest = []
    for row in ROWS:
        if row.seq > seq:
            raw = row.canonical.replace(b'"seq":%d,' % row.seq, b'"seq":%d,' % (row.seq - 1))
            row = structs.replace(row, seq=row.seq - 1, canonical=raw, hash=leaf_hash(raw))
        if row.seq != seq or row is not ROWS[seq - 1]:
            rest.append(row)

    assert _first(check(rest)) == (Problem.UNCHAINED, seq)


@pytest.mark.parametrize("at", range(SIZE + 1))
def test_an_inserted_entry_is_named(at: int) -> None:
    """An inserted entry is found as a repeated number or by the broken chain."""
    [strange], _ = seal(HEADS[at], [draft(99)], START)

    problem, found = _first(check([*ROWS[:at], strange, *ROWS[at:]], head=HEAD))

    assert found in (at, at + 1)
    assert problem in ((Problem.REPEATED,) if at < SIZE else (Problem.REWRITTEN,))


@pytest.mark.parametrize("at", range(SIZE))
def test_a_repeated_entry_is_named(at: int) -> None:
    """Verification names an entry that occurs twice."""
    assert _first(check([*ROWS[: at + 1], ROWS[at], *ROWS[at + 1 :]])) == (Problem.REPEATED, at + 1)


@given(st.integers(0, SIZE - 2), st.data())
def test_swapped_entries_are_named(first: int, data: st.DataObject) -> None:
    """Verification names swapped entries, with or without swapped numbers."""
    second = data.draw(st.integers(first + 1, SIZE - 1))
    moved, filed = list(ROWS), list(ROWS)
    moved[first], moved[second] = moved[second], moved[first]
    filed[first] = structs.replace(ROWS[second], seq=first + 1)
    filed[second] = structs.replace(ROWS[first], seq=second + 1)

    assert _first(check(moved)) == (Problem.OUT_OF_ORDER, second + 1)
    assert _first(check(filed)) == (Problem.OUT_OF_ORDER, first + 1)


@pytest.mark.parametrize("size", range(SIZE))
def test_a_log_that_was_cut_off_is_found_by_its_checkpoint(size: int) -> None:
    """A truncated log, or an old copy of the database, is shorter than the signed checkpoint."""
    result = check(ROWS[:size], *NOTES, head=HEADS[size])

    assert _first(result) == (Problem.TRUNCATED, size + 1)
    assert "old copy of the database" in result.findings[0].message
    assert _first(check(ROWS[:size], head=HEAD)) == (Problem.TRUNCATED, size + 1)


def test_missing_checkpoints_give_a_warning() -> None:
    """Without checkpoints, a truncated or rewritten log has no findings, and the result warns about this."""
    unanchored = check(ROWS[:5], head=HEADS[5])
    assert unanchored.ok and not unanchored.anchored
    assert "a rewritten log or a missing end would not be detected." in unanchored.summary()
    assert check(ROWS, NOTES[0]).remarks == ("Entries 5 to 12 are newer than the newest checkpoint.",)


@pytest.mark.parametrize("seq", range(1, SIZE + 1))
def test_a_rewritten_log_is_found_by_its_checkpoint(seq: int) -> None:
    """If one entry and all later hashes are rewritten, the change is found between two checkpoints."""
    lie = ROWS[seq - 1].canonical.replace(b"remediator/a", b"remediator/b")
    rows = rechain(ROWS, {seq: lie})
    around = (seq - 1) // 4 * 4

    assert check(rows).ok
    assert _first(check(rows, *NOTES)) == (Problem.REWRITTEN, around + 1)
    assert _first(check(rows, head=HEAD))[0] is Problem.REWRITTEN


def test_a_different_valid_log_is_found() -> None:
    """A valid chain that was made from scratch does not have the signed roots."""
    others, head = make(20, tag="forged")

    assert check(others, head=head).ok
    assert _first(check(others, *NOTES, head=head)) == (Problem.REWRITTEN, 1)


def test_a_forged_checkpoint_is_named() -> None:
    """A checkpoint for the forged log has an invalid signature."""
    forged = NOTES[-1].replace("\n12\n", "\n11\n")

    assert _first(check(ROWS, forged)) == (Problem.FORGED, None)


def test_checkpoints_of_unknown_keys_are_ignored() -> None:
    """Checkpoints with an unknown key, no key or damage are ignored. If none is left, this is a finding."""
    stranger = note(HEADS[4], Signer.generate(ORIGIN))

    assert check(ROWS, stranger, "torn", *NOTES).ok
    assert [remark[:24] for remark in check(ROWS, stranger, "torn", *NOTES).remarks] == [
        "Checkpoint 1 was ignored",
        "Checkpoint 2 was ignored",
    ]
    assert _first(check(ROWS, stranger, "torn")) == (Problem.UNTRUSTED, None)
    assert _first(verify(ROWS, Anchors(NOTES, []))) == (Problem.UNTRUSTED, None)


def test_two_histories_under_one_key_are_named() -> None:
    """If a key signed two roots for one size, this is found with either log."""
    _, other = make(8, tag="other")

    assert _first(check(ROWS, *NOTES, note(other))) == (Problem.SPLIT, None)


def test_checkpoints_of_several_logs_need_a_choice() -> None:
    """With checkpoints of two logs, verification asks for the origin and then uses only the checkpoints of that log."""
    elsewhere = Signer.generate("elsewhere.example")
    from_elsewhere = checkpoint.sign("elsewhere.example", HEADS[4], [elsewhere])
    keys = [*KEYS, elsewhere.verifier]
    assert _first(verify(ROWS, Anchors([*NOTES, from_elsewhere], keys))) == (Problem.UNTRUSTED, None)
    assert verify(ROWS, Anchors([*NOTES, from_elsewhere], keys, origin=ORIGIN)).ok


def test_an_index_that_disagrees_with_its_entry_is_named() -> None:
    """A row with a wrong run, kind, episode or time is found, because searches would miss its entry."""
    row = ROWS[5]
    for change in (
        {"run": "run-99"},
        {"kind": "evidence"},
        {"episode": None},
        {"time": row.time + timedelta(microseconds=1)},
    ):
        bad = structs.replace(row, **change)
        assert _first(check([*ROWS[:5], bad, *ROWS[6:]])) == (Problem.MISLABELLED, 6)


def test_an_entry_from_the_future_is_named() -> None:
    """An entry with a future time is a finding, unless the clock is only a little ahead."""
    rows, head = seal(GENESIS, [draft(1)], START)
    more, _ = seal(head, [draft(2)], START + timedelta(days=1, minutes=6))

    assert _first(check([*rows, *more])) == (Problem.FUTURE, 2)
    assert verify([*rows, *more]).ok


def test_a_time_that_goes_back_is_a_remark() -> None:
    """A time that goes back is a remark and not a finding, because clocks are corrected and replicas differ."""
    rows, head = seal(GENESIS, [draft(1)], START)
    more, _ = seal(head, [draft(2)], START - timedelta(seconds=1))

    result = check([*rows, *more])

    assert result.ok and any("The time goes back at entry 2" in remark for remark in result.remarks)


@pytest.mark.parametrize("seq", [5, 6], ids=["ascii", "not-ascii"])
@pytest.mark.parametrize(
    "change",
    [
        lambda raw: raw.replace(b'"v":1}', b'"v":1 }'),
        lambda raw: raw.replace(b'"v":1}', b'"v":2}'),
        lambda raw: raw.replace(b'"v":1}', b'"v":1,"v":1}'),
        lambda raw: raw.replace(b'"v":1}', b'"v":1,"w":1}'),
        lambda raw: raw.replace(b'"data":', b'"data":{},"data":'),
        lambda raw: raw.replace(b"remediator", b"\\u0072emediator"),
        lambda raw: raw.replace(b'"number":', b'"number":0'),
        lambda raw: b"null",
        lambda raw: b"",
    ],
)
def test_bytes_that_are_not_canonical_are_named(seq: int, change: Callable[[bytes], bytes]) -> None:
    """An entry in another encoding is found even if hash and chain are right."""
    raw = change(ROWS[seq - 1].canonical)
    assert raw != ROWS[seq - 1].canonical

    assert _first(check(rechain(ROWS, {seq: raw}))) == (Problem.UNREADABLE, seq)


@pytest.mark.parametrize("seq", [5, 6], ids=["ascii", "not-ascii"])
@pytest.mark.parametrize(
    "change",
    [
        lambda raw: raw.replace(b'"tag":""', b'"tag":4.0'),
        lambda raw: raw.replace(b'"tag":""', b'"tag": ""'),
        lambda raw: raw.replace(b'"tag":""', b'"tag":"a","tag":""'),
        lambda raw: raw.replace(b'"tag":""', b'"tag":"","sag":""'),
        lambda raw: raw.replace(b'"tag":""', b'"tag":"\\u0061"'),
        lambda raw: raw[: raw.index(b"{", 1)] + b'"data"' + raw[raw.index(b',"episode"') :],
    ],
)
def test_strict_names_data_that_is_not_canonical(seq: int, change: Callable[[bytes], bytes]) -> None:
    """Strict verification finds data in another encoding or with a repeated key."""
    raw = change(ROWS[seq - 1].canonical)
    assert raw != ROWS[seq - 1].canonical

    assert _first(verify(rechain(ROWS, {seq: raw}), strict=True)) == (Problem.UNREADABLE, seq)


@pytest.mark.parametrize("seq", [5, 6], ids=["ascii", "not-ascii"])
def test_an_entry_with_a_wrong_number_is_named(seq: int) -> None:
    """If the chain is right but the number inside an entry differs from that of its row, the entry is named."""
    lie = ROWS[seq - 1].canonical.replace(b'"seq":%d,' % seq, b'"seq":50,')

    assert _first(check(rechain(ROWS, {seq: lie}))) == (Problem.OUT_OF_ORDER, seq)


def test_the_first_of_several_problems_is_named() -> None:
    """Verification stops at the first bad entry, and findings about checkpoints come before it."""
    rows = list(ROWS)
    for at in (3, 7):
        rows[at] = structs.replace(rows[at], canonical=rows[at].canonical + b" ")

    result = check(rows, *NOTES)

    assert _first(result) == (Problem.CHANGED, 4)
    assert result.last == 3 and result.remarks == ("3 checkpoints of more entries were not compared.",)


@pytest.mark.parametrize("start", range(SIZE))
def test_a_log_verifies_from_a_known_head(start: int) -> None:
    """Verification can begin at a given head, and later checkpoints prove that head."""
    result = verify(ROWS[start:], Anchors(NOTES, KEYS), start=HEADS[start], head=HEAD)
    lie = Head(HEADS[start].seq, HEADS[start].hash, bytes(len(HEADS[start].tree)))

    assert result.ok and result.checkpoints == tuple(size for size in (4, 8, SIZE) if size >= start)
    if start:
        assert _first(verify(ROWS[start:], Anchors(NOTES, KEYS), start=lie))[0] is Problem.REWRITTEN


def test_an_entry_missing_from_the_head_is_found() -> None:
    """A valid entry that the head does not include is a finding."""
    [more], _ = seal(HEAD, [draft(50)], START)

    assert _first(check([*ROWS, more], head=HEAD)) == (Problem.REWRITTEN, 13)


def test_long_logs_verify_across_blocks_and_checkpoints() -> None:
    """Checkpoints and damage are handled before, at and after the block boundaries of the verifier."""
    rows, head = make(2100, group=100)
    stood = heads(rows)
    notes = [note(stood[size]) for size in (1, 1023, 1024, 1025, 2048, 2100)]
    assert check(rows, *notes, head=head).checkpoints == (1, 1023, 1024, 1025, 2048, 2100)
    for at in (0, 1022, 1023, 1024, 2047, 2099):
        bad = structs.replace(rows[at], canonical=rows[at].canonical.replace(b"redis", b"sider"))
        assert _first(check([*rows[:at], bad, *rows[at + 1 :]], *notes)) == (Problem.CHANGED, at + 1)


@given(
    st.lists(
        st.tuples(st.sampled_from(["drop", "repeat", "swap", "byte"]), st.integers(0, 200)), min_size=1, max_size=4
    )
)
def test_no_combination_of_changes_passes(changes: list[tuple[str, int]]) -> None:
    """After any combination of changes to the rows, only a log that is the same as before verifies."""
    rows = list(ROWS)
    for what, where in changes:
        if not rows:
            break
        at = where % len(rows)
        if what == "drop":
            del rows[at]
        elif what == "repeat":
            rows.insert(where % 7 % len(rows), rows[at])
        elif what == "swap":
            rows[at - 1], rows[at] = rows[at], rows[at - 1]
        else:
            raw = bytearray(rows[at].canonical)
            raw[where % len(raw)] ^= 1
            rows[at] = rebuild(rows[at].seq, bytes(raw), rows[at].hash)

    assert check(rows, *NOTES, head=HEAD).ok == (rows == ROWS)


def test_entries_are_read_once() -> None:
    """Verification reads the entries once, as a stream."""

    def stream() -> Iterator[SealedEntry]:
        head = GENESIS
        for number in range(5000):
            rows, head = seal(head, [draft(number)], START)
            yield rows[0]

    result = verify(stream())
    assert result.ok and result.last == 5000
