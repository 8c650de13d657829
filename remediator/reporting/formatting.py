"""Figures as people read them."""

from __future__ import annotations

from collections.abc import Mapping


def length(seconds: float | None) -> str:
    """A duration with two figures' worth of detail: ``850 ms``, ``4.2 s``, ``3 min 20 s``, ``2 h 5 min``; ``-``."""
    if seconds is None:
        return "-"
    if seconds < 1:
        return f"{round(seconds * 1000)} ms"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for size, unit, below, smaller in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // below
            return f"{whole // size} {unit} {rest} {smaller}" if rest else f"{whole // size} {unit}"
    return f"{whole} s"


def share(part: int, whole: int) -> str:
    """A part in percent; ``-`` of nothing."""
    return f"{part / whole:.0%}" if whole else "-"


def plural(count: int, one: str, many: str = "") -> str:
    """``1 run``, ``2 runs``."""
    return f"{count} {one if count == 1 else many or one + 's'}"


def bin_names(ends: tuple[int, ...]) -> list[str]:
    """Names of a histogram's columns: ``≤ 10 s`` … ``> 4 h``."""
    return [f"≤ {length(float(end))}" for end in ends] + [f"> {length(float(ends[-1]))}"]


def listed(counts: Mapping[str, int]) -> str:
    """``3 approved, 1 expired``."""
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count) or "none"
