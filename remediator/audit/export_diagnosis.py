"""Explains a line that is not an entry of an export. The cause is often a mail program or an editor that changed the
file, not an attack. The operator must be able to see the difference."""

from __future__ import annotations

from remediator.core import untrusted_json

_BEGINNINGS = (
    (b"\xef\xbb\xbf", "a byte order mark that an editor added; remove it, or export again"),
    (b"\xff\xfe", "text in UTF-16; export again, or convert it to UTF-8"),
    (b"\xfe\xff", "text in UTF-16; export again, or convert it to UTF-8"),
    (b"\x1f\x8b", "a gzip file; unpack it first, for example with gunzip"),
    (b"SQLite format 3", "an SQLite database; give it with --db"),
    (b"seq,time,kind", "a CSV export; only JSON lines can be verified (--format jsonl)"),
)


def describe_line(line: bytes) -> str:
    """Describe in a few words a line that is not an entry."""
    for beginning, what in _BEGINNINGS:
        if line.startswith(beginning):
            return what
    if not line.strip():
        return "an empty line" if line else "nothing"
    if line.endswith(b"\r\n"):
        return "a line that ends in CR LF, as Windows and mail programs write; export again, or convert it to LF"
    if not line.endswith(b"\n"):
        return "a line that was cut off"
    try:
        parsed = untrusted_json.decode(line)
    except ValueError:
        return "a line that is not JSON"
    if isinstance(parsed, dict) and "class_uid" in parsed:
        return "an OCSF export; only JSON lines can be verified (--format jsonl)"
    if isinstance(parsed, dict) and parsed.keys() >= {"seq", "hash", "entry"}:
        return "an entry that was reformatted after the export"
    return "JSON, but not a line of an export"
