"""The room, and the marker of the tests that drive a browser."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.web.room import Room, room


def pytest_configure(config: pytest.Config) -> None:
    """This folder's marker."""
    config.addinivalue_line("markers", "browser: drives a real Chromium; skipped where there is none")


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Room]:
    """A room with everyday settings."""
    async with room(tmp_path) as made:
        yield made
