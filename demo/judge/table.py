"""The table of a judgement, for a terminal and as a document."""

from __future__ import annotations

from collections.abc import Sequence

from rich.markup import escape
from rich.table import Table

from demo.judge.row import Judgement

_COLUMNS = ("#", "fault", "cause named", "remedy", "runs", "harm", "measured", "proof", "s")
MOST_UNNAMED = 3
"""This many rows may end without a named cause."""


def table(found: Sequence[Judgement]) -> Table:
    """Return the table for a terminal."""
    made = Table(title=summary(found), title_justify="left", show_lines=True)
    for column in _COLUMNS:
        made.add_column(column, overflow="fold")
    for each in found:
        made.add_row(*(escape(cell) for cell in _cells(each)), style="red" if _bad(each) else None)
    return made


def document(found: Sequence[Judgement]) -> str:
    """Return the table as Markdown."""
    lines = ["| " + " | ".join(_COLUMNS) + " |", "|" + "---|" * len(_COLUMNS)]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in _cells(each)) + " |" for each in found]
    return f"""\
# Judgement of the shipped playbooks

`make judge` makes each fault on real servers, in the mode `auto`, and measures what follows. `ROWS=1,4` selects rows.
A row passes if a true cause is named, no other cause is named, and nothing is harmed.

{summary(found)}

{chr(10).join(lines)}
"""


def summary(found: Sequence[Judgement]) -> str:
    """Return the counts in one sentence."""
    ran = [each for each in found if not each.not_run]
    return (
        f"{len(ran)} rows run, {len(found) - len(ran)} not run; with harm: {sum(bool(each.harm) for each in ran)}, "
        f"with a wrong cause: {sum(bool(each.wrong) for each in ran)}, unnamed: {sum(each.unnamed for each in ran)}."
    )


def passed(found: Sequence[Judgement]) -> bool:
    """Return whether nothing was harmed, no wrong cause was named, and at most three rows are unnamed."""
    return not any(_bad(each) for each in found) and sum(each.unnamed for each in found) <= MOST_UNNAMED


def _bad(found: Judgement) -> bool:
    return bool(found.harm or found.wrong)


def _cells(found: Judgement) -> tuple[str, ...]:
    row = found.row
    if found.not_run:
        return (str(row.number), row.fault, f"not run: needs {found.not_run}", "", "", "", "", "", "")
    wrong = set(found.wrong)
    named = ", ".join(f"{cause} (wrong)" if cause in wrong else cause for cause in found.named) or "none"
    return (
        str(row.number),
        row.fault,
        f"{named} (unnamed)" if found.unnamed else named,
        ", ".join(found.actions) or "none",
        ", ".join(found.statuses) or "none",
        "; ".join(found.harm) or "none",
        found.measured,
        found.proof,
        f"{found.seconds:.0f}",
    )
