"""Export formats of the log: JSON lines (which can be verified), CSV, and OCSF for security data lakes."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

import msgspec
from msgspec import Struct

import remediator
from remediator.audit.canonical import NotCanonical, decode
from remediator.audit.chain import GENESIS, Head
from remediator.audit.entry import EPOCH, Entry, Kind, SealedEntry
from remediator.core import untrusted_json
from remediator.core.clock import to_micros

COLUMNS = (
    "seq",
    "time",
    "kind",
    "actor",
    "run",
    "episode",
    "playbook",
    "reason",
    "plan_hash",
    "playbook_hash",
    "data",
    "hash",
)
"""Columns of the CSV, in order."""
OCSF_VERSION = "1.3.0"

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


class _Line(Struct, forbid_unknown_fields=True):
    seq: int
    hash: str
    entry: msgspec.Raw


class _Begin(Struct):
    seq: int
    hash: str
    tree: str


class _Start(Struct):
    start: _Begin


_decode_line = msgspec.json.Decoder(_Line, strict=True).decode
_encode = msgspec.json.Encoder(order="deterministic").encode


def to_jsonl(row: SealedEntry) -> bytes:
    """Return one line with its newline. ``entry`` holds the canonical bytes, so that a reader can hash them."""
    return b'{"seq":%d,"hash":"%s","entry":%s}\n' % (row.seq, row.hash.hex().encode(), row.canonical)


def start_line(start: Head) -> bytes:
    """Return the first line of an export that does not begin with entry 1: the head before its first entry."""
    return b'{"start":{"seq":%d,"hash":"%s","tree":"%s"}}\n' % (
        start.seq,
        start.hash.hex().encode(),
        start.tree.hex().encode(),
    )


def read(lines: Iterable[bytes]) -> tuple[Head, Iterator[SealedEntry]]:
    """Read an export. Return the head before its first entry, and its entries.

    Raises:
        NotCanonical: the first line is damaged.
    """
    stream = iter(lines)
    first = next(stream, None)
    if first is None:
        return GENESIS, iter(())
    if not first.startswith(b'{"start":'):
        return GENESIS, from_jsonl(chain((first,), stream))
    try:
        begin = untrusted_json.decode(first, _Start).start
        head = Head(begin.seq, bytes.fromhex(begin.hash), bytes.fromhex(begin.tree))
        head.root()
    except ValueError as error:
        raise NotCanonical(f"the first line of the export is damaged: {error}") from error
    return head, from_jsonl(stream, head.seq)


def from_jsonl(lines: Iterable[bytes], last: int = 0) -> Iterator[SealedEntry]:
    """Yield the entries of an export. A line that is not an entry becomes an entry that fails verification."""
    for line in lines:
        bad = SealedEntry(last + 1, EPOCH, "", None, None, line, b"")
        try:
            parsed = _decode_line(line)
            row = rebuild(parsed.seq, bytes(parsed.entry), bytes.fromhex(parsed.hash))
            # the rest of the line must be unchanged too: no byte of an export can change undetected
            row = row if to_jsonl(row) == line.rstrip(b"\n") + b"\n" else bad
        except (ValueError, RecursionError):
            row = bad
        last = row.seq
        yield row


def rebuild(seq: int, canonical: bytes, stored: bytes) -> SealedEntry:
    """Return a stored entry from its number, bytes and hash. Values that cannot be decoded are left empty."""
    try:
        entry = decode(canonical)
        return SealedEntry(seq, entry.time, entry.kind, entry.run, entry.episode, canonical, stored)
    except (NotCanonical, ValueError):
        return SealedEntry(seq, EPOCH, "", None, None, canonical, stored)


def read_entry(row: SealedEntry) -> Entry:
    """Decode a stored entry.

    Raises:
        NotCanonical: the bytes are not an entry. The message names the entry.
    """
    try:
        return decode(row.canonical)
    except NotCanonical as error:
        raise NotCanonical(f"cannot read entry {row.seq}: {error}; run 'remediator audit verify'") from error


def csv_header() -> str:
    """Return the header line of the CSV."""
    return _csv(COLUMNS)


def to_csv(row: SealedEntry) -> str:
    """Return one CSV line. Cells that a spreadsheet would execute as a formula begin with an apostrophe."""
    entry = read_entry(row)
    fields = msgspec.to_builtins(entry) | {"data": _encode(entry.data).decode(), "hash": row.hash.hex()}
    texts = ("" if fields[column] is None else str(fields[column]) for column in COLUMNS)
    return _csv(tuple(f"'{text}" if text.startswith(_FORMULA) else text for text in texts))


def _csv(cells: tuple[str, ...]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\r\n").writerow(
        cells
    )  # RFC 4180; with CRLF, both CR and LF are quoted inside a cell
    return buffer.getvalue()


# OCSF has a class for remediation; its status is the outcome of an action
_REMEDIATION = {Kind.ACTION_INTENDED, Kind.ACTION_OUTCOME, Kind.ACTION_OBSERVED, Kind.ACTION_UNDONE}
_STATUS = {"ok": (1, "Success"), "failed": (2, "Failure"), "unknown": (0, "Unknown")}
_SEVERE = {
    Kind.STOP_SET: 3,
    Kind.ACTION_OUTCOME: 2,
    Kind.CIRCUIT_BREAKER_TRIPPED: 3,
    Kind.WATCHDOG_LOST: 4,
    Kind.RUN_FENCED: 3,
}


def to_ocsf(row: SealedEntry) -> dict[str, Any]:
    """Return the entry as an OCSF event: Remediation Activity (7001) for actions, Base Event for all other kinds.

    Every event contains the number and the hash of the entry, so that an event in the data lake can be found in the
    log.
    """
    entry = read_entry(row)
    event = _ocsf_base(row, entry)
    if entry.kind in _REMEDIATION:
        event |= _ocsf_class(7, 7001, 3, "Restore")
        event |= {"command_uid": str(entry.data.get("attempt") or entry.run or row.seq)}
        outcome = entry.data.get("outcome")
        if outcome is not None:  # an intent has no outcome yet
            status, name = _STATUS.get(str(outcome), (99, str(outcome)))
            event |= {"status_id": status, "status": name}
    else:
        event |= _ocsf_class(0, 0, 99, entry.kind)
    return event


def _ocsf_class(category: int, number: int, activity: int, name: str) -> dict[str, Any]:
    return {
        "category_uid": category,
        "class_uid": number,
        "activity_id": activity,
        "activity_name": name,
        "type_uid": number * 100 + activity,
    }


def _ocsf_base(row: SealedEntry, entry: Entry) -> dict[str, Any]:
    return {
        "time": to_micros(entry.time) // 1000,
        "severity_id": _SEVERE.get(Kind(entry.kind), 1) if entry.kind in set(Kind) else 1,
        "message": entry.reason or entry.kind,
        "metadata": {
            "version": OCSF_VERSION,
            "product": {"name": "remediator", "vendor_name": "remediator", "version": remediator.__version__},
            "uid": row.hash.hex(),
            "sequence": row.seq,
            "event_code": entry.kind,
            **({"correlation_uid": about} if (about := entry.run or entry.episode) else {}),
            "original_time": entry.written,
        },
        "unmapped": {
            "actor": entry.actor,
            "episode": entry.episode,
            "run": entry.run,
            "playbook": entry.playbook,
            "playbook_hash": entry.playbook_hash,
            "plan_hash": entry.plan_hash,
            "data": entry.data,
        },
    }
