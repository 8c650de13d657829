"""Charts as SVG for pages and as PNG for chat messages. They contain no script and fetch nothing.

Every SVG has a sentence for screen readers, and every mark a tooltip with its value. Inside a page the colours come
from the style sheet of the page. A standalone SVG contains its own.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import NamedTuple

from markupsafe import Markup

from remediator.reporting.formatting import format_time, length, local

Line = Sequence[tuple[datetime, float]]

CSS = """
.chart{width:100%;height:auto;display:block}.chart text{font:12px system-ui,sans-serif;fill:var(--dim)}
.chart .name,.chart .value{fill:var(--ink)}.chart .grid{stroke:var(--line);stroke-width:1}
.chart .point{stroke:none;fill:var(--line0)}
.chart .line{fill:none;stroke-width:2}.chart .line0{stroke:var(--line0)}
.chart .line1{stroke:#8a5cd1}.chart .line2{stroke:#0e8a6d}.chart .line3{stroke:#b0651d}
.chart .limit{stroke:var(--bad);stroke-dasharray:6 4}.chart .mark{stroke:var(--quiet);stroke-dasharray:2 3}
.chart .good{fill:var(--good)}.chart .help{fill:var(--help)}.chart .quiet{fill:var(--quiet)}
.chart .held{fill:var(--held)}.chart .bad{fill:var(--bad)}.chart .now{fill:var(--now)}.chart .was{fill:var(--was)}
.chart .soft{opacity:.45}
"""
"""The rules of charts. They need the colour variables of the page; :data:`_COLOURS` has those of a standalone SVG."""
_COLOURS = """
svg{--ink:#1d2330;--dim:#4a5560;--line:#c9d1d8;--line0:#1f6feb;--good:#1a8a5a;--help:#2b7fb8;--quiet:#57606a;
--held:#c98a12;--bad:#c0392b;--now:#3b6ea8;--was:#a9b1bf}
@media(prefers-color-scheme:dark){svg{--ink:#e6e9ef;--dim:#aab6c2;--line:#39424d;--line0:#6cb2ff;--quiet:#8b98a5}}
"""
WIDTH = 720
_LEFT, _RIGHT, _TOP = 56, 12, 14
_PLOT = WIDTH - _LEFT - _RIGHT
_MAX_LINES = 4


class Mark(NamedTuple):
    """An instant with a vertical line in a chart, and the event at that time."""

    at: datetime
    text: str


@dataclass(frozen=True, slots=True)
class Scale:
    """A linear scale: maps values from ``low`` to ``high`` to pixels from ``start`` to ``end``."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Return the pixel of a value."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    @classmethod
    def of_time(cls, first: datetime, last: datetime, start: float, end: float) -> Scale:
        """Return a scale of UNIX timestamps between two instants, at least one second long."""
        return cls(first.timestamp(), max(last.timestamp(), first.timestamp() + 1), start, end)

    @classmethod
    def of_values(cls, lines: Iterable[Line], limit: float | None, start: float, end: float) -> Scale:
        """Return a scale that covers all finite values of the lines and the limit; never empty."""
        values = [value for line in lines for _, value in line if math.isfinite(value)]
        bounds = [*values, *([] if limit is None else [limit])] or [0.0, 1.0]
        low, high = min(bounds), max(bounds)
        return cls(low - 0.5, high + 0.5, start, end) if low == high else cls(low, high, start, end)

    def ticks(self) -> list[tuple[float, str]]:
        """Return the low, middle and high values, each with its label."""
        values = (self.low, (self.low + self.high) / 2, self.high)
        return [(value, tick_label(value, self.high - self.low)) for value in values]


def tick_label(value: float, span: float) -> str:
    """Return a short label of a value on an axis of this span, exact enough that both ends have different labels."""
    digits = 3 if span <= 0 else max(3, math.ceil(math.log10(max(abs(value), span) / span)) + 2)
    return f"{value:.{min(digits, 6)}g}"


def round_up(top: float) -> float:
    """Return the next round number that is not smaller: 1, 2 or 5 times a power of ten; at least 1."""
    if top <= 1:
        return 1
    power: float = 10 ** math.floor(math.log10(top))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= top)


def _svg(height: float, label: str, parts: Sequence[Markup], *, standalone: bool = False) -> Markup:
    style = Markup("<style>{}</style>").format(Markup(_COLOURS + CSS)) if standalone else ""  # noqa: S704 - constants
    return Markup(
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {} {}" role="img" aria-label="{}" class="chart">'
        "{}{}</svg>"
    ).format(WIDTH, round(height), label, style, Markup("").join(parts))


def _text(x: float, y: float, words: object, anchor: str = "middle", kind: str = "tick") -> Markup:
    return Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}" class="{}">{}</text>').format(x, y, anchor, kind, words)


def _line(x1: float, y1: float, x2: float, y2: float, kind: str = "grid") -> Markup:
    return Markup('<line x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}" class="{}"/>').format(x1, y1, x2, y2, kind)


def _bar(x: float, y: float, width: float, height: float, kind: str, tip: str) -> Markup:
    return Markup(
        '<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" rx="1.5" class="{}"><title>{}</title></rect>'
    ).format(x, y, max(width, 0.5), max(height, 0), kind, tip)


def _column_axis(top: float, height: float, unit: str = "") -> list[Markup]:
    parts = []
    for share in (0, 0.5, 1):
        value, y = top * share, _TOP + height * (1 - share)
        if unit or value == int(value):
            parts += [_line(_LEFT, y, WIDTH - _RIGHT, y), _text(_LEFT - 6, y + 4, f"{value:g}{unit}", "end")]
    return parts


def stacked_columns(
    columns: Sequence[tuple[str, Mapping[str, int]]],
    kinds: Mapping[str, str],
    label: str,
    *,
    standalone: bool = False,
) -> Markup:
    """Draw columns side by side, each a stack of counts.

    Args:
        columns: the name and the counts of each column.
        kinds: the parts of a stack from the bottom: colour class, and name for the tooltip.
        label: the sentence for screen readers.
        standalone: whether the SVG contains its style sheet.
    """
    height = 170.0  # size of the plot in pixels
    top = round_up(max((sum(counts.get(kind, 0) for kind in kinds) for _, counts in columns), default=1))
    slot = _PLOT / max(1, len(columns))
    parts, labelled = _column_axis(top, height), max(1, math.ceil(len(columns) / 10))
    for place, (name, counts) in enumerate(columns):
        x, y = _LEFT + place * slot, _TOP + height
        for kind, words in kinds.items():
            tall = counts.get(kind, 0) / top * height
            if tall:
                y -= tall
                parts.append(_bar(x + slot * 0.12, y, slot * 0.76, tall, kind, f"{name}: {counts[kind]} {words}"))
        if place % labelled == 0:
            parts.append(_text(x + slot / 2, _TOP + height + 18, name))
    return _svg(_TOP + height + 28, label, parts, standalone=standalone)


def grouped_columns(names: Sequence[str], series: Mapping[str, tuple[str, Sequence[int]]], label: str) -> Markup:
    """Draw histograms over the same columns, each in percent of its total, because the totals differ.

    Args:
        names: of the columns.
        series: by colour class: name for the tooltip, and a count for each column.
        label: the sentence for screen readers.
    """
    height = 150.0  # size of the plot in pixels
    shares = {kind: [100 * n / max(1, sum(counts)) for n in counts] for kind, (_, counts) in series.items()}
    top = round_up(max((value for values in shares.values() for value in values), default=1))
    slot = _PLOT / len(names)
    wide = slot * 0.8 / max(1, len(series))
    parts = _column_axis(top, height, " %")
    for place, name in enumerate(names):
        parts.append(_text(_LEFT + (place + 0.5) * slot, _TOP + height + 18, name))
        for number, (kind, (words, counts)) in enumerate(series.items()):
            tall = shares[kind][place] / top * height
            if tall:
                x = _LEFT + place * slot + slot * 0.1 + number * wide
                tip = f"{words}, {name}: {counts[place]} ({shares[kind][place]:.0f} %)"
                parts.append(_bar(x, _TOP + height - tall, wide * 0.92, tall, kind, tip))
    return _svg(_TOP + height + 28, label, parts)


def duration_ranges(rows: Sequence[tuple[str, Sequence[tuple[str, str, float, float]]]], label: str) -> Markup:
    """Draw bars from the median to the 90th percentile on a logarithmic time scale, one line for each bar.

    Args:
        rows: a name, and its bars: colour class, name for the tooltip, median and 90th percentile in seconds.
        label: the sentence for screen readers.
    """
    left, row = 170, 18
    values = [max(0.1, value) for _, bars in rows for bar in bars for value in bar[2:]]
    low, high = math.log10(min(values, default=1)) - 0.15, math.log10(max(values, default=10)) + 0.15
    scale = Scale(low, high, left, WIDTH - 70)
    parts, y = [], float(_TOP)
    for name, bars in rows:
        parts.append(_text(left - 12, y + row * len(bars) / 2 + 4, name, "end", "name"))
        for kind, words, median, p90 in bars:
            tip = f"{name}, {words}: median {length(median)}, p90 {length(p90)}"
            start, end = scale(math.log10(max(0.1, median))), scale(math.log10(max(0.1, p90)))
            parts.append(_bar(start, y + row / 2 - 3, end - start, 6, f"{kind} soft", tip))
            dot = Markup('<circle cx="{:.1f}" cy="{:.1f}" r="5" class="{}"><title>{}</title></circle>')
            parts.append(dot.format(start, y + row / 2, kind, tip))
            parts.append(_text(end + 8, y + row / 2 + 4, length(median), "start", "value"))
            y += row
        y += 10
    ticks = [tick for tick in (1, 10, 60, 600, 3600, 36000, 86400) if low <= math.log10(tick) <= high]
    grid = [_line(scale(math.log10(tick)), _TOP, scale(math.log10(tick)), y) for tick in ticks]
    parts += [_text(scale(math.log10(tick)), y + 14, length(float(tick))) for tick in ticks]
    return _svg(y + 22, label, [*grid, *parts])


def line_chart(
    lines: Sequence[Line],
    start: datetime,
    end: datetime,
    limit: float | None,
    marks: Sequence[Mark],
    label: str,
    *,
    standalone: bool = False,
) -> Markup:
    """Draw up to four lines over time as SVG, with the limit of the alert and marks where something happened."""
    height, bottom = 200, 174
    x, y = Scale.of_time(start, end, _LEFT, WIDTH - _RIGHT), Scale.of_values(lines, limit, bottom, _TOP)
    parts = []
    for value, words in y.ticks():
        parts += [_line(_LEFT, y(value), WIDTH - _RIGHT, y(value)), _text(_LEFT - 6, y(value) + 4, words, "end")]
    for share, anchor in ((0.0, "start"), (0.5, "middle"), (1.0, "end")):
        at = start + timedelta(seconds=(x.high - x.low) * share)
        parts.append(_text(x(at.timestamp()), height - 8, format_time(at), anchor))
    for number, line in enumerate(lines[:_MAX_LINES]):
        points = [(x(at.timestamp()), y(value)) for at, value in line if math.isfinite(value)]
        if len(points) == 1:
            parts.append(Markup('<circle class="point" cx="{:.1f}" cy="{:.1f}" r="3"/>').format(*points[0]))
        else:
            path = " ".join(f"{left:.1f},{top:.1f}" for left, top in points)
            parts.append(Markup('<polyline class="line line{}" points="{}"/>').format(number, path))
    if limit is not None:
        parts.append(_line(_LEFT, y(limit), WIDTH - _RIGHT, y(limit), "limit"))
    for number, mark in enumerate(marks):
        if start <= mark.at <= end:
            # draw the labels one below the other, so that they do not overlap
            left, top = x(mark.at.timestamp()), _TOP + 8 + 13 * number
            parts.append(_line(left, _TOP, left, bottom, "mark"))
            right = left > WIDTH - 130
            parts.append(_text(left - 4 if right else left + 4, top, mark.text, "end" if right else "start", "name"))
    return _svg(height, label, parts, standalone=standalone)


PNG_WIDTH, PNG_HEIGHT = 480, 160
_PALETTE = (0xFFFFFF, 0xD9DFE5, 0x3C4650, 0xC0392B, 0x1F6FEB, 0x8A5CD1, 0x0E8A6D, 0xB0651D)
_GRID, _INK, _LIMIT, _FIRST_LINE = 1, 2, 3, 4
"""Indexes into the palette."""
_GLYPHS = {
    "0": "75557", "1": "26227", "2": "71747", "3": "71317", "4": "55711", "5": "74717", "6": "74757", "7": "71122",
    "8": "75757", "9": "75717", ".": "00002", "-": "00700", "+": "02720", ":": "02020", "e": "07747",
}  # fmt: skip
"""Five rows of three pixels, one octal digit each, for the characters of numbers and times."""


def line_chart_png(lines: Sequence[Line], start: datetime, end: datetime, limit: float | None) -> bytes:
    """Draw up to four lines over time as PNG, with the limit of the alert. For channels that do not accept SVG."""
    left, right, top, bottom = 62, PNG_WIDTH - 10, 10, PNG_HEIGHT - 24
    x, y = Scale.of_time(start, end, left, right), Scale.of_values(lines, limit, bottom, top)
    canvas = _Canvas()
    for value, words in y.ticks():
        canvas.stroke((left, round(y(value))), (right, round(y(value))), _GRID)
        canvas.write(words, left - 4, round(y(value)) - 4)
    canvas.write(f"{local(start):%H:%M}", left + 40, PNG_HEIGHT - 16)
    canvas.write(f"{local(end):%H:%M%z}"[:-2], right, PNG_HEIGHT - 16)  # with the UTC offset in hours
    for number, line in enumerate(lines[:_MAX_LINES]):
        points = [(round(x(at.timestamp())), round(y(value))) for at, value in line if math.isfinite(value)]
        for first, second in pairwise(points if len(points) > 1 else points * 2):
            canvas.stroke(first, second, _FIRST_LINE + number)
    if limit is not None:
        for dash in range(left, right, 10):
            canvas.stroke((dash, round(y(limit))), (min(dash + 5, right), round(y(limit))), _LIMIT)
    return canvas.encode()


class _Canvas:
    """Pixels with colours of the palette."""

    def __init__(self) -> None:
        self.rows = [bytearray(PNG_WIDTH) for _ in range(PNG_HEIGHT)]

    def _set(self, x: int, y: int, colour: int) -> None:
        if 0 <= x < PNG_WIDTH and 0 <= y < PNG_HEIGHT:
            self.rows[y][x] = colour

    def stroke(self, start: tuple[int, int], end: tuple[int, int], colour: int) -> None:
        """Draw a straight line, two pixels thick."""
        steps = max(abs(end[0] - start[0]), abs(end[1] - start[1]), 1)
        for step in range(steps + 1):
            x = start[0] + round((end[0] - start[0]) * step / steps)
            y = start[1] + round((end[1] - start[1]) * step / steps)
            self._set(x, y, colour)
            self._set(x, y + 1, colour)

    def write(self, text: str, right: int, top: int) -> None:
        """Write text that ends at ``right``. Each dot of a glyph is two by two pixels."""
        for place, character in enumerate(reversed(text)):
            for row, dots in enumerate(_GLYPHS.get(character, "00000")):
                for column in range(3):
                    if int(dots) >> (2 - column) & 1:
                        x, y = right - (place + 1) * 8 + column * 2, top + row * 2
                        for down, across in ((0, 0), (0, 1), (1, 0), (1, 1)):
                            self._set(x + across, y + down, _INK)

    def encode(self) -> bytes:
        """Return the pixels as a PNG file with a palette."""
        head = struct.pack(">IIBBBBB", PNG_WIDTH, PNG_HEIGHT, 8, 3, 0, 0, 0)
        colours = b"".join(colour.to_bytes(3, "big") for colour in _PALETTE)
        body = zlib.compress(b"".join(b"\0" + bytes(row) for row in self.rows), 9)
        chunks = ((b"IHDR", head), (b"PLTE", colours), (b"IDAT", body), (b"IEND", b""))
        return b"\x89PNG\r\n\x1a\n" + b"".join(
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
            for kind, data in chunks
        )


@dataclass(frozen=True, slots=True)
class Box:
    """A service in the dependency diagram."""

    name: str
    kind: str
    x: int
    y: int


@dataclass(frozen=True, slots=True)
class Arrow:
    """A line from a service to a service that it depends on."""

    x1: int
    y1: int
    x2: int
    y2: int


@dataclass(frozen=True, slots=True)
class Diagram:
    """The layout of a dependency diagram: boxes in rows, each above the services that it depends on."""

    width: int
    height: int
    boxes: tuple[Box, ...]
    arrows: tuple[Arrow, ...]


BOX_WIDTH, BOX_HEIGHT = 168, 52
_GAP_X, _GAP_Y, _EDGE = 24, 48, 8


def lay_out_dependencies(depends_on: Mapping[str, Sequence[str]], kinds: Mapping[str, str]) -> Diagram:
    """Lay out services and their dependencies. The inventory guarantees that there are no cycles."""

    def depth(name: str) -> int:
        return 1 + max((depth(cause) for cause in depends_on[name]), default=-1)

    depths = {name: depth(name) for name in depends_on}
    deepest = max(depths.values(), default=0)
    rows = [sorted(name for name, level in depths.items() if level == row) for row in range(deepest, -1, -1)]
    boxes = {
        name: Box(name, kinds[name], _EDGE + place * (BOX_WIDTH + _GAP_X), _EDGE + row * (BOX_HEIGHT + _GAP_Y))
        for row, names in enumerate(rows)
        for place, name in enumerate(names)
    }
    half = BOX_WIDTH // 2
    arrows = tuple(
        Arrow(boxes[name].x + half, boxes[name].y + BOX_HEIGHT, boxes[cause].x + half, boxes[cause].y)
        for name, causes in depends_on.items()
        for cause in causes
    )
    widest = max((len(names) for names in rows), default=0)
    width = 2 * _EDGE + widest * (BOX_WIDTH + _GAP_X) - _GAP_X
    height = 2 * _EDGE + len(rows) * (BOX_HEIGHT + _GAP_Y) - _GAP_Y
    return Diagram(max(width, 1), max(height, 1), tuple(boxes.values()), arrows)
