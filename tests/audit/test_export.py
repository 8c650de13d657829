"""Exports: JSON lines that verify, CSV that is safe in a spreadsheet, and OCSF events."""

from __future__ import annotations

import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remediator.audit import GENESIS, Draft, Kind, NotCanonical, Problem, decode, export, seal, verify
from remediator.audit.verification import Anchors
from remediator.core.outcome import Outcome
from tests.support.sample_logs import START, check, heads, make, note

ROWS, HEAD = make(9)
LINES = [export.to_jsonl(row) for row in ROWS]


@pytest.mark.promise(9)
def test_an_export_verifies_without_the_database() -> None:
    """The JSON lines contain everything that verification needs, and every JSON parser can read them."""
    start, rows = export.read(LINES)
    parsed = [json.loads(line) for line in LINES]

    assert start == GENESIS
    assert list(rows) == ROWS
    assert check(export.read(LINES)[1], note(HEAD)).ok
    assert [line["entry"]["seq"] for line in parsed] == list(range(1, 10))


@pytest.mark.slow
@pytest.mark.promise(9)
def test_no_byte_of_an_export_can_change() -> None:
    """A change of any byte of any line, including newlines, fails verification."""
    whole = bytearray(b"".join(LINES[:4]))
    for at in range(len(whole) - 1):
        for value in (whole[at] ^ 1, whole[at] ^ 0x20, ord("\n")):
            if value == whole[at]:
                continue
            kept, whole[at] = whole[at], value
            result = check(export.read(io.BytesIO(bytes(whole)))[1], note(heads(ROWS)[4]))
            whole[at] = kept
            assert not result.ok, f"byte {at} as {value}"


@pytest.mark.promise(9)
@pytest.mark.parametrize(
    "line", [b"", b"\n", b"{}", b"null\n", b'{"seq":3}\n', b"\xff\xfe\n", b'{"seq":"3","hash":"","entry":{}}']
)
def test_bad_line_is_reported_by_number(line: bytes) -> None:
    """An error about garbage, a partial line or an empty line gives the number of the line."""
    [finding] = check(export.read([*LINES[:2], line, *LINES[3:]])[1]).findings

    assert (finding.problem, finding.seq) == (Problem.UNREADABLE, 3)


@pytest.mark.promise(9)
@pytest.mark.parametrize("begin", range(1, 9))
def test_export_that_begins_later_verifies(begin: int) -> None:
    """An export that begins later contains the head before its first entry, and a checkpoint proves this head."""
    first = export.start_line(heads(ROWS)[begin])
    start, rows = export.read([first, *LINES[begin:]])
    result = verify(rows, Anchors([note(HEAD)], []), start=start)

    assert start == heads(ROWS)[begin]
    assert check(export.read([first, *LINES[begin:]])[1]).findings[0].problem is Problem.MISSING
    assert result.findings[0].problem is Problem.UNTRUSTED and result.last == 9
    for damaged in (first[:-9], first.replace(b'"tree":"', b'"tree":"00')):
        with pytest.raises(NotCanonical):
            export.read([damaged, *LINES[begin:]])
    elsewhere, rows = export.read([first.replace(b'"seq":%d' % begin, b'"seq":%d' % (begin << 5)), *LINES[begin:]])
    assert not verify(rows, start=elsewhere).ok


def test_an_empty_export_is_an_empty_log() -> None:
    """An export without lines verifies as an empty log."""
    start, rows = export.read([])

    assert check(rows).ok and start == GENESIS


@given(st.text(st.characters(codec="utf-8"), max_size=12), st.sampled_from(["", "=", "+", "-", "@", "\t", "\r"]))
def test_csv_round_trips_and_contains_no_formula(text: str, sign: str) -> None:
    """Quoting preserves the cells, and no cell begins like a formula of a spreadsheet."""
    [row], _ = seal(GENESIS, [Draft(Kind.EVIDENCE, sign + text or "x", reason=sign + text)], START)
    header, cells = csv.reader(io.StringIO(export.csv_header() + export.to_csv(row), newline=""))
    found = dict(zip(header, cells, strict=True))
    written = decode(row.canonical).reason or ""

    assert found["reason"].removeprefix("'") == written.removeprefix("'")
    assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) for cell in cells)
    assert (found["seq"], found["hash"]) == ("1", row.hash.hex())


def test_ocsf_events_have_what_their_class_requires() -> None:
    """Every event has class, type, time, severity and product, and the number of the entry."""
    for sealed in make(len(Kind))[0]:
        event, entry = export.to_ocsf(sealed), decode(sealed.canonical)
        acted = entry.kind.startswith("action.")

        assert event["type_uid"] == event["class_uid"] * 100 + event["activity_id"]
        assert (event["class_uid"], event["category_uid"]) == ((7001, 7) if acted else (0, 0))
        assert ("command_uid" in event) == acted
        assert event["time"] == int(entry.time.timestamp() * 1000)
        assert event["severity_id"] in range(7)
        assert event["metadata"]["version"] and event["metadata"]["product"]["vendor_name"]
        assert (event["metadata"]["uid"], event["metadata"]["sequence"]) == (sealed.hash.hex(), sealed.seq)
        assert json.loads(json.dumps(event)) == event


@pytest.mark.parametrize(
    ("outcome", "status"), [*zip([each.value for each in Outcome], (1, 2, 0), strict=True), ("other", 99)]
)
def test_ocsf_status_is_the_outcome_of_an_action(outcome: str, status: int) -> None:
    """The status of an event follows the outcome of its action. An unknown outcome is not a failure."""
    draft = Draft(Kind.ACTION_OUTCOME, "remediator/a", run="run-1", data={"outcome": outcome, "attempt": "attempt-7"})
    [row], _ = seal(GENESIS, [draft], START)

    assert export.to_ocsf(row)["status_id"] == status
    assert export.to_ocsf(row)["command_uid"] == "attempt-7"


def test_ocsf_gives_an_intent_no_outcome() -> None:
    """The event of an intent has no status, because its outcome is not known yet."""
    draft = Draft(Kind.ACTION_INTENDED, "remediator/a", run="run-1", data={"attempt": "attempt-7"})
    [row], _ = seal(GENESIS, [draft], START)

    assert "status_id" not in export.to_ocsf(row)
