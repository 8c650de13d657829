"""Sizes as people read them."""

from __future__ import annotations

MEBIBYTE = 1024 * 1024
"""Bytes of one mebibyte."""


def format_size(size: float) -> str:
    """Return a size in bytes as text with a binary unit, for example ``512 B`` or ``4.0 MiB``."""
    if size < 1024:
        return f"{size:.0f} B"
    if size < MEBIBYTE:
        return f"{size / 1024:.1f} KiB"
    if size < 1024 * MEBIBYTE:
        return f"{size / MEBIBYTE:.1f} MiB"
    return f"{size / (1024 * MEBIBYTE):.1f} GiB"
