"""Run the commands of a tutorial exactly as written, but with free ports."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Timer

from tests.support.servers import free_port, require
from tests.support.servers.remediator import ROOT

TUTORIALS = {"tutorial": ("6390", "8095"), "http-service": ("8401", "8404", "9402", "9403")}
"""The pages whose commands are run, with the ports that they use."""
_BLOCK = re.compile(r"^```(\w+)(?: file=(\S+))?\n(.*?)^```$|^(## [^\n]*)$", re.MULTILINE | re.DOTALL)
_MARK = "=== block "


@dataclass
class Block:
    """A file to write, or commands to run."""

    heading: str
    text: str
    file: str = ""
    expected: list[str] = field(default_factory=list)
    """Lines that the output must contain."""


@dataclass
class Line:
    """A line of output: the number of its block, when it was written (seconds after the start), and its text."""

    block: int
    at: float
    text: str


def blocks(page: str) -> list[Block]:
    """Return the blocks of a page, in order."""
    found: list[Block] = []
    heading = ""
    for kind, file, body, title in _BLOCK.findall(page):
        if title:
            heading = title
        elif kind == "text":
            found[-1].expected = [line for line in body.splitlines() if line.strip()]
        else:
            found.append(Block(heading, body, file))
    return found


def text_of(name: str) -> str:
    """Return the text of a page of ``docs``."""
    return (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")


class Tutorial:
    """One run of a page in an empty folder.

    Args:
        name: the name of the page, without its suffix.
        folder: the page runs in the folder ``work`` below it.
    """

    def __init__(self, name: str, folder: Path) -> None:
        page = text_of(name)
        self.ports = {port: str(free_port()) for port in TUTORIALS[name]}
        for port, free in self.ports.items():
            page = page.replace(port, free)
        self.blocks = blocks(page)
        self.status: int | None = None
        """The exit status of the commands; None before their end."""
        self.started: dict[int, float] = {}
        """Begin of each block of commands, in seconds after the start."""
        self._programs = _programs(folder / "bin")
        self.work = folder / "work"
        self.work.mkdir()

    def run(self, limit: float = 570) -> Iterator[Line]:
        """Write the files and run the commands in order, and yield each line of output when it is written.

        Args:
            limit: seconds after which the commands are stopped.
        """
        parts = [
            f"cat > {block.file} <<'END_OF_FILE'\n{block.text}END_OF_FILE\n"
            if block.file
            else f"echo '{_MARK}{number}'\n{block.text}"
            for number, block in enumerate(self.blocks)
        ]
        process = subprocess.Popen(
            ["bash", "-e", "-c", "\n".join(parts)],
            cwd=self.work,
            env={**os.environ, "PATH": f"{self._programs}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        begun = time.monotonic()
        timer = Timer(limit, _kill, (process,))
        timer.start()
        block = 0
        try:
            assert process.stdout is not None
            for line in process.stdout:
                at = time.monotonic() - begun
                text, marked, number = line.rstrip("\n").partition(_MARK)
                if text or not marked:  # a program may leave its last line without an end
                    yield Line(block, at, text)
                if marked:
                    block = int(number)
                    self.started[block] = at
            self.status = process.wait()
        finally:
            timer.cancel()
            self._end(process)

    def _end(self, process: subprocess.Popen[str]) -> None:
        """Stop the servers and the service that the page started and did not stop."""
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with process:  # its pipe is closed and its exit is awaited
            process.kill()
        for listed in self.work.glob("*.pid"):
            with suppress(ProcessLookupError):
                os.kill(int(listed.read_text()), signal.SIGTERM)


def _kill(process: subprocess.Popen[str]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _programs(folder: Path) -> Path:
    """Make a folder with the programs that the pages call. Programs of the environment need not be in ``PATH``."""
    for program in ("redis-server", "curl", "prometheus"):
        require(program)
    environment = Path(sys.executable).parent
    calls = {
        "remediator": f"{shlex.quote(sys.executable)} -m remediator",
        "supervisord": str(environment / "supervisord"),
        "supervisorctl": str(environment / "supervisorctl"),
        "alertmanager": require("prometheus-alertmanager", "alertmanager"),
    }
    folder.mkdir()
    for name, call in calls.items():
        path = folder / name
        path.write_text(f'#!/bin/sh\nexec {call} "$@"\n')
        path.chmod(0o755)
    return folder
