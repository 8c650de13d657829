"""Fixtures of the guard tests: an empty SQLite store and all guards."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.guard_history import Harness, SetClock
from tests.support.stores import new_store


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[Harness]:
    """Return all guards with an empty store, at noon."""
    clock = SetClock()
    store = new_store(tmp_path, clock)
    yield Harness(store, clock)
    await store.close()
