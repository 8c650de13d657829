"""Documents with headings, tables and charts, rendered as HTML and as Markdown from the templates of this package."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from remediator.core.text import printable
from remediator.reporting import charts

_MARKDOWN = re.compile(r"([\\`*_\[\]<>|#~&$!])")
_AUTOLINK = re.compile(r"(@(?=\w)|:(?=//)|\bwww\.)", re.IGNORECASE)
"""Text that wikis and ticket systems turn into a mention or a link, even without brackets."""


class Card(NamedTuple):
    """A large number at the top of a page; ``kind`` is its colour class."""

    value: object
    label: str
    kind: str = ""


class Figure(NamedTuple):
    """A chart with its caption and the meaning of its colours. Markdown leaves figures out."""

    chart: Markup
    caption: str
    key: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True)
class Section:
    """A heading, and below it text, cards, figures and one table. ``numbers`` are the right-aligned columns."""

    title: str
    text: Sequence[str] = ()
    head: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    numbers: Sequence[int] = ()
    figures: Sequence[Figure] = ()
    cards: Sequence[Card] = ()
    level: int = 2

    @property
    def empty(self) -> bool:
        """Return whether the section has only its heading."""
        return not (self.text or self.rows or self.figures or self.cards)


def escape_markdown(text: object) -> str:
    """Return text on one line that Markdown shows unchanged.

    Names from outside cannot add links or cells, and cannot mention people: a zero-width space stops the mention and
    the link.
    """
    plain = _MARKDOWN.sub(r"\\\1", " ".join(printable(str(text), " ").split()))
    return _AUTOLINK.sub(r"\1&#8203;", plain)


_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=select_autoescape(["html"]),  # the filter below escapes Markdown
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
_TEMPLATES.filters["escape_markdown"] = escape_markdown


def to_html(sections: Sequence[Section], footer: str = "") -> str:
    """Return one self-contained page. It contains its charts and styles, and no script."""
    css = Markup(charts.CSS)  # noqa: S704 - a constant
    return _TEMPLATES.get_template("document.html").render(sections=sections, footer=footer, chart_css=css)


def to_markdown(sections: Sequence[Section], footer: str = "") -> str:
    """Return Markdown for a wiki page or a ticket."""
    return _TEMPLATES.get_template("document.md").render(sections=sections, footer=footer).rstrip("\n") + "\n"
