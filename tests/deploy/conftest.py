"""Fixtures: a local stack for one test, on free ports."""

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
    """Return a folder with a space in its path, short enough for the path of a socket."""
    with tempfile.TemporaryDirectory(prefix="a stack ") as name:
        yield Path(name)


@pytest.fixture
def local_stack(short_folder: Path) -> Iterator[Settings]:
    """Return a stack that is not started. It is stopped at the end, however the test ends."""
    for program in programs.PACKAGES:
        require(program)
    settings = Settings(short_folder, _free_ports())
    yield settings
    processes.down(settings)


def _free_ports() -> Ports:
    """Return ports below the range that the kernel gives to connections, so that no connection takes one."""
    names = [field.name for field in fields(Ports)]
    while True:
        ports = Ports(**dict(zip(names, random.sample(range(20_000, 32_000), len(names)), strict=True)))
        if not ports.busy():
            return ports
