"""A log that cannot be written: the caller gets no exception, and the lost lines are counted and reported."""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TextIO, cast

import pytest
import structlog

from remediator.config import Log
from remediator.runtime import log_output
from remediator.runtime.log_output import LogOutput, log_to

pytestmark = pytest.mark.promise(14)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of 64 KiB."""
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
    """Return a logger that writes to an output, configured as in the service."""
    made = structlog.wrap_logger(
        structlog.WriteLoggerFactory(cast(TextIO, output))(), processors=[structlog.processors.JSONRenderer()]
    )
    return cast(structlog.stdlib.BoundLogger, made)


def test_a_full_disk_never_reaches_the_caller_and_the_loss_is_reported(small_disk: Path) -> None:
    """On a full disk, logging raises no exception. Later the log reports the number of lost lines."""
    path = small_disk / "remediator.log"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        output = LogOutput(descriptor)
        log = logger(output)
        log.info("before")
        assert output.drain()
        ballast = fill(small_disk)
        for number in range(200):
            log.info("run claimed", number=number, text="x" * 100)
        assert output.drain()
        assert output.lost > 100
        assert output.error == "No space left on device"
        ballast.unlink()
        log.info("after")
        assert output.drain()
        assert not output.error
    finally:
        os.close(descriptor)
    lines = path.read_text().splitlines()
    assert lines[0] == '{"event": "before"}'
    assert lines[-2:] == [
        f"{output.lost} lines of the log could not be written and are lost",
        '{"event": "after"}',
    ]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EPIPE, errno.EIO])
def test_an_error_of_the_output_never_reaches_the_caller(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk, a closed pipe and a broken disk raise no exception in the caller."""

    def write(descriptor: int, data: bytes) -> int:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(log_output, "_write_all", write)
        output = LogOutput(-1)
        logger(output).info("run claimed")
        assert output.drain()
    assert (output.lost, output.error) == (1, os.strerror(number))


def test_a_full_pipe_never_blocks_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the pipe is full after 64 KiB, a limited number of lines waits; the others are lost, counted and reported
    later."""
    monkeypatch.setattr(log_output, "MAX_WAITING", 100_000)
    reader, writer = os.pipe()
    output = LogOutput(writer)
    log = logger(output)
    for _ in range(1000):
        log.info("run claimed", text="x" * 1000)
    assert not output.drain(0.01)
    assert output.lost > 500
    os.set_blocking(reader, False)
    read = b""
    for last in (False, True):
        if last:
            log.info("after")
        while not output.drain(0.001):
            with suppress(BlockingIOError):
                read += os.read(reader, 65536)
    read += os.read(reader, 65536)
    os.close(writer)
    os.close(reader)
    assert read.count(b"run claimed") == 1000 - output.lost
    reported = re.findall(rb"(\d+) lines of the log could not be written and are lost", read)
    assert sum(map(int, reported)) == output.lost


def test_an_event_that_cannot_be_rendered_is_lost_and_counted() -> None:
    """If a value cannot be converted to text, only its event is lost and counted."""

    class Hostile:
        def __repr__(self) -> str:
            raise RuntimeError("no text")

        __str__ = __repr__

    before = structlog.get_config()
    reader, writer = os.pipe()
    try:
        output = log_to(writer, Log(format="human"))
        structlog.get_logger().info("run claimed", run=Hostile())
        structlog.get_logger().info("after")
        assert output.drain()
    finally:
        structlog.configure(**before)
        os.close(writer)
    assert output.lost == 1
    assert b"after" in os.read(reader, 65536)
    os.close(reader)


def test_output_that_is_no_terminal_is_json() -> None:
    """By default, output to a pipe has one JSON object per line."""
    before = structlog.get_config()
    reader, writer = os.pipe()
    try:
        output = log_to(writer, Log())
        structlog.get_logger().info("serving")
        assert output.drain()
    finally:
        structlog.configure(**before)
        os.close(writer)
    assert json.loads(os.read(reader, 65536))["event"] == "serving"
    os.close(reader)
