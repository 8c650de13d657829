"""A house for every test: a new SQLite store, and all guards."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from remediator.storage.sqlite import SqliteStore
from tests.support.guard_history import House, SetClock


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    """A store with nothing in it, at noon."""
    clock = SetClock()
    store = SqliteStore(tmp_path / "remediator.db", clock)
    yield House(store, clock)
    await store.close()
