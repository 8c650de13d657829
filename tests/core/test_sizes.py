"""Sizes in units for people."""

from __future__ import annotations

import pytest

from remediator.core.sizes import format_size


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1536, "1.5 KiB"),
        (16 * 1024**2, "16.0 MiB"),
        (2.5 * 1024**3, "2.5 GiB"),
        (3000 * 1024**3, "3000.0 GiB"),
    ],
)
def test_a_size_has_the_unit_that_fits(size: float, text: str) -> None:
    """A small size is never shown as 0.0 MiB."""
    assert format_size(size) == text
