"""Sizes as people read them."""

from __future__ import annotations

_MEBIBYTE = 1024 * 1024


def mib(size: float) -> str:
    """Return a size in bytes as mebibytes with one decimal place, for example ``4.0 MiB``."""
    return f"{size / _MEBIBYTE:.1f} MiB"
