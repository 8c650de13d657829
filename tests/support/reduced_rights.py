"""Run code with fewer rights than the tests have."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NOBODY = 65_534


@contextmanager
def nobody(*fixed: Path, hidden: Path | None = None) -> Iterator[None]:
    """Run code without the right to write into ``fixed`` and to look into ``hidden``.

    As root, become the user nobody for a time. Any other user gives up these rights.
    """
    if os.geteuid() != 0:
        with _without(*((folder, 0o555) for folder in fixed), *([(hidden, 0)] if hidden else [])):
            yield
        return
    groups = os.getgroups()
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, 0)
    os.setresuid(NOBODY, NOBODY, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)
        os.setresgid(0, 0, 0)
        os.setgroups(groups)


@contextmanager
def _without(*modes: tuple[Path, int]) -> Iterator[None]:
    before = [(folder, folder.stat().st_mode) for folder, _ in modes]
    for folder, mode in modes:
        folder.chmod(mode)
    try:
        yield
    finally:
        for folder, mode in before:
            folder.chmod(mode)
