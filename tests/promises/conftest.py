"""Fixtures for the tests of promises."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.replicas import Installation

MakeInstallation = Callable[..., Installation]


@pytest.fixture
def make_installation(tmp_path: Path) -> Iterator[MakeInstallation]:
    """Return a function that makes and starts an installation. All installations are stopped after the test."""
    made: list[Installation] = []

    def make(**arguments: Any) -> Installation:
        made.append(Installation(tmp_path, **arguments))
        made[-1].start()
        return made[-1]

    yield make
    for installation in made:
        installation.stop()
