"""Commands of remediator, each as a process of its own, without the seconds of its imports.

A server, one for all tests of a worker, has imported the commands; each command is forked from it. For tests of what a
command does. A test of the process itself (its imports, its warnings, its terminal, its encoding) starts Python.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from multiprocessing.connection import wait
from pathlib import Path
from tempfile import TemporaryDirectory

from demo.stack.settings import ROOT
from remediator.cli.main import COMMANDS, GROUPS, main

LONGEST = 120.0
"""Seconds after which a command is killed."""

_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload([f"remediator.cli.{name}" for name in (*COMMANDS, *GROUPS)])
_changes = threading.Lock()
"""Held while a process is started or its status is read: tests run commands in several threads."""


def remediator(
    *argv: str, folder: Path = ROOT, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder, with this environment or that of the test; return its status and what it wrote."""
    sys.audit("os.fork")  # for tests/conftest.py: a unit test starts no process
    with TemporaryDirectory() as kept:
        written = Path(kept, "stdout"), Path(kept, "stderr")
        given = dict(os.environ if environment is None else environment)
        process = _SERVER.Process(target=_command, args=(argv, folder, given, written), daemon=True)
        with _changes:
            process.start()
        if not wait([process.sentinel], LONGEST):
            process.kill()
            wait([process.sentinel])
        with _changes:
            process.join()
        assert process.exitcode is not None
        return subprocess.CompletedProcess(argv, process.exitcode, *(path.read_text("utf-8") for path in written))


def _command(argv: tuple[str, ...], folder: Path, environment: dict[str, str], written: tuple[Path, Path]) -> None:
    """Become a command that was started by ``python -m remediator``."""
    for path, standard in zip(written, (1, 2), strict=True):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), standard)
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    os.chdir(folder)
    sys.argv = ["remediator", *argv]
    main()
