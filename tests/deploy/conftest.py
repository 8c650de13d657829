"""A local stack of a test's own, on ports that nobody uses."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

from demo.stack import processes, programs
from demo.stack.settings import Ports, Settings
from tests.support.servers import require


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A folder whose path leaves room for a socket's name beneath it, with a space."""
    with tempfile.TemporaryDirectory(prefix="a stack ") as name:
        yield Path(name)


@pytest.fixture
def local_stack(short_folder: Path) -> Iterator[Settings]:
    """A stack that is not started; stopped at the end, however the test ends."""
    for program in programs.PACKAGES:
        require(program)
    settings = Settings(short_folder, _free_ports())
    yield settings
    processes.down(settings)


def _free_ports() -> Ports:
    """Below those that the kernel gives to connections, which might take one meanwhile."""
    names = [field.name for field in fields(Ports)]
    while True:
        ports = Ports(**dict(zip(names, random.sample(range(20_000, 32_000), len(names)), strict=True)))
        if not ports.busy():
            return ports
