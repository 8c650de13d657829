"""The tutorial works word for word: this test writes its files and runs its commands."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.servers import free_port, require
from tests.support.servers.remediator import ROOT

_BLOCK = re.compile(r"^```(\w+)(?: file=(\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.timeout(600)
def test_the_tutorial_works_word_for_word(tmp_path: Path) -> None:
    """Every command succeeds in order, and every line of an expected output appears."""
    require("redis-server")
    require("curl")
    page = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
    for port in ("6390", "8095"):
        page = page.replace(port, str(free_port()))
    script, expected = _script(page)
    (tmp_path / "bin").mkdir()
    shim = tmp_path / "bin" / "remediator"
    shim.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m remediator "$@"\n')
    shim.chmod(0o755)
    work = tmp_path / "work"
    work.mkdir()

    environment = {**os.environ, "PATH": f"{shim.parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        ["bash", "-e", "-c", script],
        cwd=work,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        said, _ = process.communicate(timeout=600)
    finally:
        _end(process, work)

    assert process.returncode == 0, said
    parts = said.split("=== block ")
    for number, lines in expected.items():
        shown = next(part for part in parts if part.startswith(f"{number}\n"))
        for line in lines:
            assert line in shown, f"{line!r} is not in:\n{shown}"


def _script(page: str) -> tuple[str, dict[int, list[str]]]:
    """Return all blocks as one script that marks the output of each, and the expected lines of each block."""
    parts: list[str] = []
    expected: dict[int, list[str]] = {}
    for kind, file, body in _BLOCK.findall(page):
        if kind == "text":
            expected[len(parts)] = [line for line in body.splitlines() if line.strip()]
        elif kind == "yaml":
            parts.append(f"cat > {file} <<'END_OF_FILE'\n{body}END_OF_FILE\n")
        else:
            parts.append(f"echo '=== block {len(parts) + 1}'\n{body}")
    assert expected
    return "\n".join(parts), expected


def _end(process: subprocess.Popen[str], work: Path) -> None:
    """Stop what the page started and did not stop: its Redis and its service."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with process:  # its pipe is closed, and it is waited for
        process.kill()
    listed = work / "redis.pid"
    if listed.is_file():
        os.kill(int(listed.read_text()), signal.SIGTERM)
