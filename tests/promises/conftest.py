"""Fixtures for the tests of promises."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.replicas import House

MakeHouse = Callable[..., House]


@pytest.fixture
def make_house(tmp_path: Path) -> Iterator[MakeHouse]:
    """Return a function that makes and starts a house: targets and a store. All houses are stopped after the test."""
    made: list[House] = []

    def make(**arguments: Any) -> House:
        made.append(House(tmp_path, **arguments))
        made[-1].start()
        return made[-1]

    yield make
    for house in made:
        house.stop()
