"""A small line chart as a PNG, for messages: channels take no SVG. A palette, a few dozen lines of code, no library."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import pairwise
from math import ceil, isfinite, log10

WIDTH, HEIGHT = 480, 160
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 10, 10, 24
_PALETTE = (0xFFFFFF, 0xD9DFE5, 0x3C4650, 0xC0392B, 0x1F6FEB, 0x8A5CD1, 0x0E8A6D, 0xB0651D)
_GRID, _INK, _LIMIT, _FIRST_LINE = 1, 2, 3, 4
_MOST_LINES = 4
Line = Sequence[tuple[datetime, float]]


class _Canvas:
    """Dots of the palette's colours."""

    def __init__(self) -> None:
        self.rows = [bytearray(WIDTH) for _ in range(HEIGHT)]

    def dot(self, x: int, y: int, colour: int) -> None:
        if 0 <= x < WIDTH and 0 <= y < HEIGHT:
            self.rows[y][x] = colour

    def stroke(self, start: tuple[int, int], end: tuple[int, int], colour: int) -> None:
        """A straight line, two dots thick."""
        steps = max(abs(end[0] - start[0]), abs(end[1] - start[1]), 1)
        for step in range(steps + 1):
            x = start[0] + round((end[0] - start[0]) * step / steps)
            y = start[1] + round((end[1] - start[1]) * step / steps)
            self.dot(x, y, colour)
            self.dot(x, y + 1, colour)

    def write(self, text: str, right: int, top: int) -> None:
        """Letters of two by two dots, that end at ``right``."""
        for place, letter in enumerate(reversed(text)):
            for row, dots in enumerate(_rows(letter)):
                for column in range(3):
                    if dots >> (2 - column) & 1:
                        self._block(right - (place + 1) * 8 + column * 2, top + row * 2)

    def _block(self, x: int, y: int) -> None:
        for down in range(2):
            for across in range(2):
                self.dot(x + across, y + down, _INK)

    def encoded(self) -> bytes:
        """As PNG."""
        head = struct.pack(">IIBBBBB", WIDTH, HEIGHT, 8, 3, 0, 0, 0)
        colours = b"".join(colour.to_bytes(3, "big") for colour in _PALETTE)
        body = zlib.compress(b"".join(b"\0" + bytes(row) for row in self.rows), 9)
        parts = ((b"IHDR", head), (b"PLTE", colours), (b"IDAT", body), (b"IEND", b""))
        return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in parts)


def _rows(letter: str) -> Iterator[int]:
    yield from (int(digit) for digit in _LETTERS.get(letter, "00000"))


_LETTERS = {
    "0": "75557", "1": "26227", "2": "71747", "3": "71317", "4": "55711", "5": "74717", "6": "74757", "7": "71122",
    "8": "75757", "9": "75717", ".": "00002", "-": "00700", "+": "02720", ":": "02020", "e": "07747",
}  # fmt: skip
"""Five rows of three dots for each letter that a number or a time needs."""


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def label(value: float, span: float) -> str:
    """A value beside an axis of this span: exact enough that its ends are different numbers, and short."""
    digits = 3 if span <= 0 else max(3, ceil(log10(max(abs(value), span) / span)) + 2)
    return f"{value:.{min(digits, 6)}g}"


def line_chart(lines: Sequence[Line], start: datetime, end: datetime, limit: float | None) -> bytes:
    """Up to four lines over time, and the limit that they are compared with."""
    values = [value for line in lines for _, value in line if isfinite(value)]
    bounds = [*values, *([] if limit is None else [limit])] or [0.0, 1.0]
    low, high = min(bounds), max(bounds)
    if low == high:
        low, high = low - 0.5, high + 0.5
    canvas, length = _Canvas(), max((end - start).total_seconds(), 1.0)

    def x(at: datetime) -> int:
        return _LEFT + round((at - start).total_seconds() / length * (WIDTH - _LEFT - _RIGHT))

    def y(value: float) -> int:
        return HEIGHT - _BOTTOM - round((value - low) / (high - low) * (HEIGHT - _TOP - _BOTTOM))

    for value in (low, (low + high) / 2, high):
        canvas.stroke((_LEFT, y(value)), (WIDTH - _RIGHT, y(value)), _GRID)
        canvas.write(label(value, high - low), _LEFT - 4, y(value) - 4)
    canvas.write(f"{start:%H:%M}", _LEFT + 40, HEIGHT - 16)
    canvas.write(f"{end:%H:%M}", WIDTH - _RIGHT, HEIGHT - 16)
    for number, line in enumerate(lines[:_MOST_LINES]):
        points = [(x(at), y(value)) for at, value in line if isfinite(value)]
        for first, second in pairwise(points if len(points) > 1 else points * 2):
            canvas.stroke(first, second, _FIRST_LINE + number)
    if limit is not None:
        for left in range(_LEFT, WIDTH - _RIGHT, 10):
            canvas.stroke((left, y(limit)), (min(left + 5, WIDTH - _RIGHT), y(limit)), _LIMIT)
    return canvas.encoded()
