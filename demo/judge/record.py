"""The stored results of judged rows. A run of some rows replaces their results, and the document shows all rows."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from demo.judge import table
from demo.judge.row import Judgement, Row
from demo.stack.settings import ROOT

RESULTS = ROOT / "demo/judge/results.json"
DOCUMENT = ROOT / "docs/judgement.md"
BEGIN, END = "<!-- begin: written by WRITE=1 make judge -->\n", "<!-- end -->\n"
"""Between these lines, the document is generated. The rest is handwritten."""


class Record(msgspec.Struct, frozen=True):
    """The result of one row."""

    number: int
    fault: str
    cells: tuple[str, ...]
    judged: str
    """Date and commit of the judgement."""
    ran: bool
    harmed: bool
    wrong: bool
    unnamed: bool


def write(found: Sequence[Judgement], rows: Sequence[Row]) -> None:
    """Replace the results of these rows, remove those of deleted rows, and write the document.

    A row that cannot run here, for example without a cluster, keeps its result.
    """
    kept = {(each.number, each.fault): each for each in read()}
    new = {(each.number, each.fault): each for each in map(_record, found)}
    kept |= {key: each for key, each in new.items() if each.ran or key not in kept}
    known = [kept[key] for row in rows if (key := (row.number, row.fault)) in kept]
    missing = [row for row in rows if (row.number, row.fault) not in kept]
    RESULTS.write_bytes(msgspec.json.format(msgspec.json.encode(known), indent=1) + b"\n")
    text = DOCUMENT.read_text(encoding="utf-8")
    DOCUMENT.write_text(document(text, known, missing), encoding="utf-8")


def read() -> list[Record]:
    """Return the stored results, none if no row has been judged yet."""
    return msgspec.json.decode(RESULTS.read_bytes(), type=list[Record]) if RESULTS.exists() else []


def document(text: str, records: Sequence[Record], missing: Sequence[Row]) -> str:
    """Return the document with the generated part. The handwritten parts stay.

    Args:
        text: the present document.
        records: the results.
        missing: rows without a result.
    """
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    columns = (*table.COLUMNS, "judged")
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(_cell(cell) for cell in (*each.cells, each.judged)) + " |" for each in records]
    ran = [each for each in records if each.ran]
    counts = table.summary(
        len(ran),
        len(records) - len(ran),
        sum(each.harmed for each in ran),
        sum(each.wrong for each in ran),
        sum(each.unnamed for each in ran),
    )
    lines += ["", *(f"- Not judged yet: row {row.number}, {row.fault}." for row in missing)] if missing else []
    return f"{before}{BEGIN}\n{counts}\n\n" + "\n".join(lines) + f"\n\n{END}{after}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _record(found: Judgement) -> Record:
    row = found.row
    return Record(
        number=row.number,
        fault=row.fault,
        cells=table.cells(found),
        judged=f"{datetime.now(UTC):%Y-%m-%d}, {_commit()}",
        ran=not found.not_run,
        harmed=bool(found.harm),
        wrong=bool(found.wrong),
        unnamed=found.unnamed,
    )


def _commit() -> str:
    """Return the short hash of the judged commit, ``unknown`` outside a Git checkout."""
    argv = ("git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD")
    ended = subprocess.run(argv, capture_output=True, text=True, check=False)
    return ended.stdout.strip() or "unknown"
