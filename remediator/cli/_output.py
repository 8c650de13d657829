"""The only way from a command to the terminal. Text from outside cannot steer the terminal that shows it.

Labels, log lines and error texts come from other systems. An escape sequence in them could rewrite the lines above, by
which people decide. The lint rule TID251 forbids ``click.echo`` everywhere else.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from typing import Any

import click

from remediator.core.text import printable, printable_lines


def echo(text: object = "", *, err: bool = False, nl: bool = True) -> None:
    """Print text of one or more lines."""
    click.echo(printable_lines(str(text)), err=err, nl=nl)


def lines(items: Iterable[str], empty: str = "") -> None:
    """Print each item on one line, whatever it contains: a newline in a label cannot add a line.

    Args:
        items: the lines.
        empty: what to print if there are none.
    """
    echo("\n".join(map(printable, items)) or empty)


def data(value: Any, indent: int | None = 2) -> None:
    """Print a value as JSON, in which all characters outside ASCII are escaped."""
    echo(json.dumps(value, indent=indent))


def exact(text: str) -> None:
    """Print text for a program without a change; for a terminal, it is cleaned like all other text."""
    if sys.stdout.isatty():
        echo(text, nl=False)
    else:
        click.echo(text, nl=False)
