"""A log that cannot be written: nothing is raised into the caller, and the loss is counted and reported."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TextIO, cast

import pytest
import structlog

from remediator.runtime.log_output import LogOutput

pytestmark = pytest.mark.promise(14)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB of its own."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ("mount", "-t", "tmpfs", "-o", "size=64k", "remediator-test", str(folder)), capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("only root can mount a small file system")
    yield folder
    subprocess.run(("umount", "-l", str(folder)), check=True, capture_output=True)


def fill(folder: Path) -> Path:
    """Fill a file system and return the file that fills it."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"x" * 4096)
    return ballast


def logger(output: LogOutput) -> structlog.stdlib.BoundLogger:
    """Return a logger that writes to an output, as the service has it."""
    made = structlog.wrap_logger(
        structlog.WriteLoggerFactory(cast(TextIO, output))(), processors=[structlog.processors.JSONRenderer()]
    )
    return cast(structlog.stdlib.BoundLogger, made)


def test_a_full_disk_never_reaches_the_caller_and_the_loss_is_reported(small_disk: Path) -> None:
    path = small_disk / "remediator.log"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        output = LogOutput(descriptor)
        log = logger(output)
        log.info("before")
        ballast = fill(small_disk)
        for number in range(200):
            log.info("run claimed", number=number, text="x" * 100)
        assert output.lost > 100
        ballast.unlink()
        log.info("after")
    finally:
        os.close(descriptor)
    lines = path.read_text().splitlines()
    assert lines[0] == '{"event": "before"}'
    assert lines[-2:] == [
        f"{output.lost} lines of the log could not be written and are lost",
        '{"event": "after"}',
    ]


def test_a_closed_pipe_never_reaches_the_caller() -> None:
    """Whoever read the log has ended."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        output = LogOutput(writer)
        logger(output).info("run claimed")
    finally:
        os.close(writer)
    assert output.lost == 1
