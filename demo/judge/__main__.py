"""``make judge``: make each fault for real, and print the named causes, the actions and the harm.

Environment: ROWS=1,4,7 selects rows. WRITE=1 writes their results into docs/judgement.md. STATE and the ports select
the stack, as in ``make up``.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

from rich.console import Console

from demo.judge import record, table
from demo.judge.row import Judgement, Row
from demo.judge.rows import ROWS
from demo.judge.trial import judge
from demo.stack import programs
from demo.stack.settings import StackError, from_environment


def main(environment: Mapping[str, str]) -> int:
    """Return the exit status: 0 passed, 1 harm, a wrong cause or too many unnamed ones, 2 wrong usage."""
    console = Console(width=None if sys.stdout.isatty() else 180)
    try:
        rows = chosen(environment.get("ROWS", ""))
        settings = from_environment(environment)
        programs.ensure()
    except StackError as error:
        console.print(str(error), style="red", markup=False, highlight=False)
        return 2
    found: list[Judgement] = []
    try:
        for row in rows:
            found.append(judge(settings, row))
            _tell(console, found[-1])
            if environment.get("WRITE", "") not in ("", "0"):
                record.write(found[-1:], ROWS)  # now, because a later row may end the judgement
    except KeyboardInterrupt:
        console.print("interrupted", style="red")
        return 1
    console.print(table.table(found))
    if environment.get("WRITE", "") not in ("", "0"):
        console.print(f"written to {record.DOCUMENT}", highlight=False)
    return 0 if table.passed(found) else 1


def chosen(numbers: str) -> tuple[Row, ...]:
    """Return the rows with these comma-separated numbers, or all rows for an empty text.

    Rows with the same number are variants of a fault.

    Raises:
        StackError: there is no such row.
    """
    if not numbers:
        return ROWS
    known = {str(row.number) for row in ROWS}
    asked = [number.strip() for number in numbers.split(",")]
    unknown = [number for number in asked if number not in known]
    if unknown:
        raise StackError(
            f"ROWS: unknown row {unknown[0]!r}; rows: {', '.join(sorted(known, key=int))}; for example ROWS=1,4"
        )
    return tuple(row for number in asked for row in ROWS if str(row.number) == number)


def _tell(console: Console, found: Judgement) -> None:
    named = ", ".join(found.named) or "no cause"
    text = (
        f"not run: needs {found.not_run}" if found.not_run else f"{named}; {', '.join(found.actions) or 'nothing done'}"
    )
    bad = [*found.harm, *(f"wrong cause {cause}" for cause in found.wrong)]
    bad += [f"in no message or evidence: {pattern}" for pattern in found.unsaid]
    bad += ["no true cause named"] * (found.unnamed and not found.unsaid)
    console.print(f"{found.row.number:3} {found.row.fault}: {text}", markup=False, highlight=False)
    for line in (*found.statuses, *found.told, found.measured):
        console.print(f"      {line}", style="dim", markup=False, highlight=False)
    for line in bad:
        console.print(f"      {line}", style="red", markup=False, highlight=False)


if __name__ == "__main__":
    sys.exit(main(os.environ))
