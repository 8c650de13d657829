"""The only way from a command to the terminal. Text from outside cannot steer the terminal that shows it.

Labels, log lines and error texts come from other systems. An escape sequence in them could rewrite earlier lines, on
which people base decisions. The lint rule TID251 forbids ``click.echo`` everywhere else.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import click

from remediator.core.text import printable, printable_lines

T = TypeVar("T")
_STEP = 5000
"""Items after which a count on a terminal changes: counting must not slow the work down."""


def echo(text: object = "", *, err: bool = False, nl: bool = True) -> None:
    """Print text of one or more lines."""
    click.echo(printable_lines(str(text)), err=err, nl=nl)


def lines(items: Iterable[str], empty: str = "") -> None:
    """Print each item on one line: a newline in a label cannot add a line.

    Args:
        items: the lines.
        empty: text for an empty list.
    """
    echo("\n".join(map(printable, items)) or empty)


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], empty: str = "") -> None:
    """Print rows: aligned columns on a terminal, otherwise one row per line with two spaces between the values.

    Args:
        columns: the headings, for a terminal.
        rows: the values.
        empty: text for an empty list.
    """
    found = [[printable(value) for value in row] for row in rows]
    if not found or not sys.stdout.isatty():
        lines(("  ".join(row) for row in found), empty)
        return
    from rich.console import Console  # noqa: PLC0415 - only for a terminal: it costs a tenth of a second
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    drawn = Table(box=None, pad_edge=False, header_style="bold")
    for name in columns:
        drawn.add_column(name, overflow="fold")
    for row in found:
        drawn.add_row(*map(Text, row))  # literal: a value is never markup
    Console(highlight=False).print(drawn)


def repeat(seconds: float | None, show: Callable[[], object]) -> None:
    """Show something once, or again every ``seconds`` until it returns true or the user presses Ctrl-C.

    Raises:
        click.Abort: the user pressed Ctrl-C.
    """
    if seconds is None:
        show()
        return
    with _interrupts() as interrupted:
        while not interrupted.is_set():
            if sys.stdout.isatty():
                click.clear()
            if show() is True:
                return
            sys.stdout.flush()
            interrupted.wait(seconds)
    raise click.Abort


@contextmanager
def _interrupts() -> Iterator[threading.Event]:
    """Note the first Ctrl-C, which an event loop that is about to end would lose. The second one interrupts at once."""
    interrupted = threading.Event()

    def note(*_: object) -> None:
        interrupted.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def working(what: str) -> Iterator[None]:
    """Show the current work of the command on a terminal."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console  # noqa: PLC0415 - only for a terminal: it costs a tenth of a second

    with Console(stderr=True, highlight=False).status(f"{printable(what)} …"):
        yield


def counted(items: Iterable[T], what: str, total: int | None = None, step: int = _STEP) -> Iterator[T]:
    """Yield the items, and show the progress on a terminal.

    Args:
        items: the items to yield.
        what: the operation, for the progress.
        total: number of items; None if unknown.
        step: number of items after which the count is updated.
    """
    if not sys.stderr.isatty():
        yield from items
        return
    from rich.console import Console  # noqa: PLC0415 - only for a terminal: it costs a tenth of a second
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True, highlight=False), transient=True) as shown:
        task = shown.add_task(printable(what), total=total)
        for number, item in enumerate(items, start=1):
            if number % step == 0:
                shown.update(task, completed=number)
            yield item
        shown.update(task, completed=total)
        shown.refresh()


def data(value: Any, indent: int | None = 2) -> None:
    """Print a value as JSON, in which all characters outside ASCII are escaped."""
    echo(json.dumps(value, indent=indent))


def exact(text: str) -> None:
    """Print text for a program without a change; for a terminal, it is cleaned like all other text."""
    if sys.stdout.isatty():
        echo(text, nl=False)
    else:
        click.echo(text, nl=False)
