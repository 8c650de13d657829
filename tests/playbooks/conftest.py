"""Fixtures of the tests with real faults of a real Redis."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.redis_bench import Bench, started


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return the folder of the bench."""
    return tmp_path / "bench"


@pytest.fixture
def bench(folder: Path, request: pytest.FixtureRequest) -> Iterator[Bench]:
    """Start a bench with an append-only file."""
    yield from started(Bench(folder, server=getattr(request, "param", "redis-server")))


@pytest.fixture
def snapshots(folder: Path, request: pytest.FixtureRequest) -> Iterator[Bench]:
    """Start a bench with snapshots only."""
    server = getattr(request, "param", "redis-server")
    yield from started(Bench(folder, "appendonly no", 'save "3600 1"', server=server))
