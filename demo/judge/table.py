"""The table of a judgement."""

from __future__ import annotations

from collections.abc import Sequence

from rich.markup import escape
from rich.table import Table

from demo.judge.row import Judgement

COLUMNS = ("#", "fault", "cause named", "remedy", "runs", "harm", "measured", "proof", "s")
MOST_UNNAMED = 3
"""Maximum number of rows without a named cause."""


def table(found: Sequence[Judgement]) -> Table:
    """Return the table for a terminal."""
    ran = [each for each in found if not each.not_run]
    harmed, wrong = sum(bool(each.harm) for each in ran), sum(bool(each.wrong) for each in ran)
    title = summary(len(ran), len(found) - len(ran), harmed, wrong, sum(each.unnamed for each in ran))
    made = Table(title=title, title_justify="left", show_lines=True)
    for column in COLUMNS:
        made.add_column(column, overflow="fold")
    for each in found:
        made.add_row(*(escape(cell) for cell in cells(each)), style="red" if _bad(each) else None)
    return made


def summary(ran: int, not_run: int, harmed: int, wrong: int, unnamed: int) -> str:
    """Return the counts in one sentence."""
    return f"{ran} rows run, {not_run} not run; with harm: {harmed}, with a wrong cause: {wrong}, unnamed: {unnamed}."


def passed(found: Sequence[Judgement]) -> bool:
    """Return whether no row did harm or named a wrong cause, and at most three rows named none."""
    return not any(_bad(each) for each in found) and sum(each.unnamed for each in found) <= MOST_UNNAMED


def _bad(found: Judgement) -> bool:
    return bool(found.harm or found.wrong)


def cells(found: Judgement) -> tuple[str, ...]:
    """Return the cells of a row, one for each of :data:`COLUMNS`."""
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
