"""Fixtures for the tests of the runtime package."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.web_service import WebService, web_service


@pytest.fixture
async def web(tmp_path: Path) -> AsyncIterator[WebService]:
    """Return a service with default settings and its web application."""
    async with web_service(tmp_path) as made:
        yield made
