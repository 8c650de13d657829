"""Small pictures of our own making: a line over time, and boxes with arrows. SVG, no library, no script."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape
from math import isfinite

from remediator.reporting.alert_series import Line
from remediator.reporting.charts_png import label

WIDTH, HEIGHT = 720, 200
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 12, 14, 26
_STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#4a5560}.a{stroke:#c9d1d8}.l{fill:none;stroke-width:2}"
    ".s0{stroke:#1f6feb}.s1{stroke:#8a5cd1}.s2{stroke:#0e8a6d}.s3{stroke:#b0651d}"
    ".t{stroke:#c0392b;stroke-dasharray:6 4}.m{stroke:#57606a;stroke-dasharray:2 3}.d{stroke:none;fill:#1f6feb}"
    "@media(prefers-color-scheme:dark){text{fill:#aab6c2}.a{stroke:#39424d}.s0{stroke:#6cb2ff}.d{fill:#6cb2ff}"
    ".m{stroke:#8b98a5}}"
)


@dataclass(frozen=True, slots=True)
class Mark:
    """A moment that is worth a vertical line."""

    at: datetime
    text: str


def line_chart(
    lines: Sequence[Line], start: datetime, end: datetime, threshold: float | None, marks: Sequence[Mark]
) -> str:
    """Up to four lines over time as SVG text."""
    values = [value for line in lines for _, value in line if isfinite(value)]
    bounds = [*values, *([threshold] if threshold is not None else [])] or [0.0, 1.0]
    low, high = min(bounds), max(bounds)
    if low == high:
        low, high = low - 0.5, high + 0.5
    scale = _Scale(start, end, low, high)
    return "".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
            f"<style>{_STYLE}</style>",
            *_axes(scale),
            *(_line(scale, line, f"s{number}") for number, line in enumerate(lines[:4])),
            *_threshold(scale, threshold),
            *_marks(scale, marks),
            "</svg>",
        )
    )


@dataclass(frozen=True, slots=True)
class _Scale:
    start: datetime
    end: datetime
    low: float
    high: float

    def x(self, at: datetime) -> float:
        share = (at - self.start).total_seconds() / max((self.end - self.start).total_seconds(), 1e-9)
        return round(_LEFT + share * (WIDTH - _LEFT - _RIGHT), 1)

    def y(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return round(HEIGHT - _BOTTOM - share * (HEIGHT - _TOP - _BOTTOM), 1)


def _axes(scale: _Scale) -> Iterator[str]:
    for value in (scale.low, (scale.low + scale.high) / 2, scale.high):
        y = scale.y(value)
        yield f'<line class="a" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y}" y2="{y}"/>'
        yield f'<text x="{_LEFT - 6}" y="{y + 4}" text-anchor="end">{label(value, scale.high - scale.low)}</text>'
    for at, anchor in (
        (scale.start, "start"),
        (scale.start + (scale.end - scale.start) / 2, "middle"),
        (scale.end, "end"),
    ):
        yield f'<text x="{scale.x(at)}" y="{HEIGHT - 8}" text-anchor="{anchor}">{at:%H:%M:%S}</text>'


def _line(scale: _Scale, line: Line, name: str) -> str:
    points = [(scale.x(at), scale.y(value)) for at, value in line if isfinite(value)]
    if len(points) == 1:
        return f'<circle class="d" cx="{points[0][0]}" cy="{points[0][1]}" r="3"/>'
    return f'<polyline class="l {name}" points="{" ".join(f"{x},{y}" for x, y in points)}"/>'


def _threshold(scale: _Scale, threshold: float | None) -> Iterator[str]:
    if threshold is not None:
        y = scale.y(threshold)
        yield f'<line class="t" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y}" y2="{y}"/>'


def _marks(scale: _Scale, marks: Sequence[Mark]) -> Iterator[str]:
    for number, mark in enumerate(marks):
        if scale.start <= mark.at <= scale.end:
            x = scale.x(mark.at)
            yield f'<line class="m" x1="{x}" x2="{x}" y1="{_TOP}" y2="{HEIGHT - _BOTTOM}"/>'
            place = f'x="{x + 4}"' if x < WIDTH - 90 else f'x="{x - 4}" text-anchor="end"'
            yield f'<text {place} y="{_TOP + 8 + 13 * number}">{escape(mark.text)}</text>'


@dataclass(frozen=True, slots=True)
class Box:
    """One service in the picture of dependencies."""

    name: str
    kind: str
    x: int
    y: int


@dataclass(frozen=True, slots=True)
class Arrow:
    """From a service to what it depends on."""

    x1: int
    y1: int
    x2: int
    y2: int


@dataclass(frozen=True, slots=True)
class Picture:
    """Boxes in rows, each above what it depends on."""

    width: int
    height: int
    boxes: tuple[Box, ...]
    arrows: tuple[Arrow, ...]


BOX_WIDTH, BOX_HEIGHT = 168, 52
_GAP_X, _GAP_Y, _EDGE = 24, 48, 8


def picture(depends_on: Mapping[str, Sequence[str]], kinds: Mapping[str, str]) -> Picture:
    """The services with arrows to what they depend on; the inventory has no circles."""
    depth = {name: _depth(name, depends_on) for name in depends_on}
    deepest = max(depth.values(), default=0)
    rows = [sorted(name for name, level in depth.items() if level == row) for row in range(deepest, -1, -1)]
    boxes = {
        name: Box(name, kinds[name], _EDGE + place * (BOX_WIDTH + _GAP_X), _EDGE + row * (BOX_HEIGHT + _GAP_Y))
        for row, names in enumerate(rows)
        for place, name in enumerate(names)
    }
    arrows = tuple(_arrow(boxes[name], boxes[cause]) for name, causes in depends_on.items() for cause in causes)
    widest = max((len(names) for names in rows), default=0)
    width = 2 * _EDGE + widest * (BOX_WIDTH + _GAP_X) - _GAP_X
    height = 2 * _EDGE + len(rows) * (BOX_HEIGHT + _GAP_Y) - _GAP_Y
    return Picture(max(width, 1), max(height, 1), tuple(boxes.values()), arrows)


def _depth(name: str, depends_on: Mapping[str, Sequence[str]]) -> int:
    return 1 + max((_depth(cause, depends_on) for cause in depends_on[name]), default=-1)


def _arrow(start: Box, end: Box) -> Arrow:
    middle = BOX_WIDTH // 2
    return Arrow(start.x + middle, start.y + BOX_HEIGHT, end.x + middle, end.y)
