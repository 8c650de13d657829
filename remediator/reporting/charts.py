"""Charts as SVG, drawn here: no script, nothing fetched; colours come from the page that they stand in.

Every chart has a sentence for those who do not see it, and every mark a tooltip with its value.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime

from markupsafe import Markup

from remediator.reporting.formatting import length

WIDTH = 720
_LEFT, _RIGHT, _TOP = 44, 12, 12


def _svg(height: float, label: str, parts: Sequence[Markup]) -> Markup:
    return Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}" class="chart">{}</svg>').format(
        WIDTH, round(height), label, Markup("").join(parts)
    )


def _text(x: float, y: float, words: object, anchor: str = "middle", kind: str = "tick") -> Markup:
    return Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}" class="{}">{}</text>').format(x, y, anchor, kind, words)


def _line(x1: float, y1: float, x2: float, y2: float, kind: str = "grid") -> Markup:
    return Markup('<line x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}" class="{}"/>').format(x1, y1, x2, y2, kind)


def _bar(x: float, y: float, width: float, height: float, kind: str, tip: str) -> Markup:
    return Markup(
        '<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" rx="1.5" class="{}"><title>{}</title></rect>'
    ).format(x, y, max(width, 0.5), max(height, 0), kind, tip)


def nice(top: float) -> float:
    """The next round number that is not below: 1, 2 or 5 times a power of ten."""
    if top <= 1:
        return 1
    power: float = 10 ** math.floor(math.log10(top))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= top)


def _scale(top: float, height: float, unit: str = "") -> list[Markup]:
    parts = []
    for share in (0, 0.5, 1):
        value, y = top * share, _TOP + height * (1 - share)
        if unit or value == int(value):
            parts += [_line(_LEFT, y, WIDTH - _RIGHT, y), _text(_LEFT - 6, y + 4, f"{value:g}{unit}", "end")]
    return parts


def stacked(
    columns: Sequence[tuple[str, Mapping[str, int]]], kinds: Mapping[str, str], label: str, height: float = 170
) -> Markup:
    """Columns side by side, each a pile of counts.

    Args:
        columns: a name and the counts of each.
        kinds: the piles' parts from the bottom, each with its name for people; the key is the colour's class.
    """
    top = nice(max((sum(counts.get(kind, 0) for kind in kinds) for _, counts in columns), default=1))
    slot = (WIDTH - _LEFT - _RIGHT) / max(1, len(columns))
    parts, every = _scale(top, height), max(1, math.ceil(len(columns) / 10))
    for place, (name, counts) in enumerate(columns):
        x, y = _LEFT + place * slot, _TOP + height
        for kind, words in kinds.items():
            tall = counts.get(kind, 0) / top * height
            if tall:
                y -= tall
                parts.append(_bar(x + slot * 0.12, y, slot * 0.76, tall, kind, f"{name}: {counts[kind]} {words}"))
        if place % every == 0:
            parts.append(_text(x + slot / 2, _TOP + height + 18, name))
    return _svg(_TOP + height + 28, label, parts)


def compared(
    names: Sequence[str], series: Mapping[str, tuple[str, Sequence[int]]], label: str, height: float = 150
) -> Markup:
    """Histograms over the same columns, each in percent of its own total, since their totals differ.

    Args:
        names: of the columns.
        series: by colour class: name for people, and a count for each column.
    """
    shares = {kind: [100 * n / max(1, sum(counts)) for n in counts] for kind, (_, counts) in series.items()}
    top = nice(max((value for values in shares.values() for value in values), default=1))
    slot = (WIDTH - _LEFT - _RIGHT) / len(names)
    wide = slot * 0.8 / max(1, len(series))
    parts = _scale(top, height, " %")
    for place, name in enumerate(names):
        parts.append(_text(_LEFT + (place + 0.5) * slot, _TOP + height + 18, name))
        for number, (kind, (words, counts)) in enumerate(series.items()):
            tall = shares[kind][place] / top * height
            if tall:
                x = _LEFT + place * slot + slot * 0.1 + number * wide
                tip = f"{words}, {name}: {counts[place]} ({shares[kind][place]:.0f} %)"
                parts.append(_bar(x, _TOP + height - tall, wide * 0.92, tall, kind, tip))
    return _svg(_TOP + height + 28, label, parts)


def spans(rows: Sequence[tuple[str, Sequence[tuple[str, str, float, float]]]], label: str) -> Markup:
    """From the median to the 90th percentile, on a logarithmic scale of time; one line of the chart for each row.

    Args:
        rows: a name, and for each mark of it: colour class, words, median and 90th percentile in seconds.
    """
    left, row = 170, 18
    values = [max(0.1, value) for _, marks in rows for mark in marks for value in mark[2:]]
    low, high = math.log10(min(values, default=1)) - 0.15, math.log10(max(values, default=10)) + 0.15
    wide = WIDTH - left - 70

    def x_of(seconds: float) -> float:
        return left + (math.log10(max(0.1, seconds)) - low) / (high - low) * wide

    parts, y = [], _TOP
    for name, marks in rows:
        parts.append(_text(left - 12, y + row * len(marks) / 2 + 4, name, "end", "name"))
        for kind, words, middle, most in marks:
            tip = f"{name}, {words}: median {length(middle)}, 90th percentile {length(most)}"
            parts.append(_bar(x_of(middle), y + row / 2 - 3, x_of(most) - x_of(middle), 6, f"{kind} soft", tip))
            parts.append(_dot(x_of(middle), y + row / 2, kind, tip))
            parts.append(_text(x_of(most) + 8, y + row / 2 + 4, length(middle), "start", "value"))
            y += row
        y += 10
    ticks = (1, 10, 60, 600, 3600, 36000, 86400)
    grid = [tick for tick in ticks if low <= math.log10(tick) <= high]
    behind = [_line(x_of(tick), _TOP, x_of(tick), y) for tick in grid]
    parts += [_text(x_of(tick), y + 14, length(float(tick))) for tick in grid]
    return _svg(y + 22, label, [*behind, *parts])


def _dot(x: float, y: float, kind: str, tip: str) -> Markup:
    return Markup('<circle cx="{:.1f}" cy="{:.1f}" r="5" class="{}"><title>{}</title></circle>').format(x, y, kind, tip)


Points = Sequence[tuple[datetime, float]]


def curves(series: Sequence[Points], marks: Sequence[tuple[datetime, str, str]], label: str) -> Markup:
    """Values over time, with vertical marks where something happened.

    Args:
        marks: instant, colour class and words; numbered in the chart in this order.
    """
    points = [point for each in series for point in each if math.isfinite(point[1])]
    if not points:
        return Markup("")
    height, instants = 130.0, [at.timestamp() for at, _ in points] + [at.timestamp() for at, _, _ in marks]
    start, end = min(instants), max(max(instants), min(instants) + 1)
    low, high = min(0.0, *(value for _, value in points)), max(value for _, value in points)
    high = high if high > low else low + 1

    def x_of(at: datetime) -> float:
        return _LEFT + (at.timestamp() - start) / (end - start) * (WIDTH - _LEFT - _RIGHT)

    def y_of(value: float) -> float:
        return _TOP + height - (value - low) / (high - low) * (height - 16)

    parts = [_line(_LEFT, y_of(value), WIDTH - _RIGHT, y_of(value)) for value in (low, high)]
    parts += [_text(_LEFT - 6, y_of(value) + 4, f"{value:.4g}", "end") for value in (low, high)]
    for number, (at, kind, words) in enumerate(marks, start=1):
        tip = f"{at:%H:%M:%S}Z {words}"
        parts.append(_bar(x_of(at) - 1, _TOP + 6, 2, height - 6, kind, tip))
        parts.append(_text(x_of(at), _TOP + 2, number, kind="tick"))
    for each in series:
        path = " ".join(f"{x_of(at):.1f},{y_of(value):.1f}" for at, value in each if math.isfinite(value))
        parts.append(Markup('<polyline points="{}" class="curve"/>').format(path))
    for share, anchor in ((0.0, "start"), (1.0, "end")):
        at = datetime.fromtimestamp(start + (end - start) * share, points[0][0].tzinfo)
        parts.append(_text(x_of(at), _TOP + height + 18, f"{at:%H:%M:%S}Z", anchor))
    return _svg(_TOP + height + 26, label, parts)
