"""What a line is that stands where a line of an export should: most often nobody's forgery, but what mail programs and
editors make of a file, and whoever verifies has to know which."""

from __future__ import annotations

import json

_BEGINNINGS = (
    (b"\xef\xbb\xbf", "a byte order mark that an editor put before it; take that away, or export again"),
    (b"\xff\xfe", "text in UTF-16; an export is UTF-8, so export again, or convert it back"),
    (b"\xfe\xff", "text in UTF-16; an export is UTF-8, so export again, or convert it back"),
    (b"\x1f\x8b", "a packed file; unpack it first (gunzip)"),
    (b"SQLite format 3", "a database; give it as --db"),
    (b"seq,time,kind", "an export as CSV; only lines of JSON verify (--format jsonl)"),
)


def strange(line: bytes) -> str:
    """What it is instead of an entry, in a few words."""
    for beginning, what in _BEGINNINGS:
        if line.startswith(beginning):
            return what
    if not line.strip():
        return "an empty line" if line else "nothing"
    if line.endswith(b"\r\n"):
        return "a line that ends in CR LF, as Windows and mail programs write; export again, or convert it back to LF"
    if not line.endswith(b"\n"):
        return "a line that was cut off in the middle"
    return _json(line)


def _json(line: bytes) -> str:
    try:
        parsed = json.loads(line)
    except (ValueError, RecursionError):
        return "a line that is no JSON"
    if isinstance(parsed, dict) and "class_uid" in parsed:
        return "an export as OCSF; only lines of JSON verify (--format jsonl)"
    if isinstance(parsed, dict) and parsed.keys() >= {"seq", "hash", "entry"}:
        return "an entry in another spelling than it was exported in"
    return "JSON, but no line of an export"
