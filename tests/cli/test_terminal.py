"""Output at a terminal: tables, progress, filters, beginnings of IDs, @latest and --watch."""

from __future__ import annotations

import asyncio
import os
import pty
import re
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from remediator.storage.schema import runs
from tests.support import commands
from tests.support.servers import DEADLINE, until
from tests.support.servers.remediator import Remediator
from tests.support.web_service import WebService, web_service

pytestmark = pytest.mark.process
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """The other side of a command whose standard output and error are a terminal of 200 columns."""

    def __init__(self, handle: int) -> None:
        self._handle = handle
        self.raw = ""
        self._closed = asyncio.Event()
        asyncio.get_running_loop().add_reader(handle, self._read)

    def _read(self) -> None:
        try:
            piece = os.read(self._handle, 65536)
        except OSError:  # the command closed its end
            piece = b""
        if not piece:
            asyncio.get_running_loop().remove_reader(self._handle)
            self._closed.set()
        self.raw += piece.decode(errors="replace")

    @property
    def text(self) -> str:
        """Return the shown text without colours and cursor movements."""
        return CONTROL.sub("", self.raw).replace("\r", "")

    async def shows(self, *parts: str) -> None:
        """Wait until the terminal shows these texts."""
        async with asyncio.timeout(DEADLINE):
            while not all(part in self.text for part in parts):
                await asyncio.sleep(0.05)

    async def ended(self) -> None:
        """Wait until the output ends."""
        async with asyncio.timeout(DEADLINE):
            await self._closed.wait()


@asynccontextmanager
async def on_terminal(web: WebService, *argv: str) -> AsyncIterator[tuple[Terminal, commands.Command]]:
    """Run a command of the local store at a terminal."""
    config = ("--config", str(web.service.config.base_dir / "remediator.yaml"))
    async with at_terminal(*argv, *config) as shown:
        yield shown


@asynccontextmanager
async def at_terminal(*argv: str) -> AsyncIterator[tuple[Terminal, commands.Command]]:
    """Run a command whose input, output and errors are a terminal."""
    environment = {**os.environ, "COLUMNS": "200", "TERM": "xterm", "NO_COLOR": ""}
    mine, its = pty.openpty()
    path = Path(os.ttyname(its))
    command = await asyncio.to_thread(commands.Command, argv, path, path, environment=environment, stdin=path)
    # a terminal without an open end reports end of file
    await asyncio.to_thread(until, lambda: Path(f"/proc/{command.pid}/fd/2").readlink() == path, "it has its terminal")
    os.close(its)
    try:
        yield Terminal(mine), command
    finally:
        command.kill()
        await asyncio.to_thread(command.wait)
        with suppress(ValueError):
            asyncio.get_running_loop().remove_reader(mine)
        os.close(mine)


@pytest.fixture
async def web(tmp_path: Path) -> AsyncIterator[WebService]:
    """Return a running service that uses the real time, because the commands have no other clock."""
    async with web_service(tmp_path) as made:
        made.clock.time = datetime.now(UTC)
        yield made


async def change(web: WebService, run_id: str, **values: Any) -> None:
    """Change a run in the store."""
    await web.context.store.write(
        lambda tx: tx.connection.execute(update(runs).where(runs.c.id == run_id).values(**values))
    )


async def piped(web: WebService, *argv: str) -> tuple[int, str]:
    """Run a command whose output is a pipe; return its exit status and its output."""
    config = ("--config", str(web.service.config.base_dir / "remediator.yaml"))
    done = await asyncio.to_thread(commands.remediator, *argv, *config)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.promise(8)
async def test_a_table_is_aligned_and_its_values_are_literal(web: WebService) -> None:
    """Headings are above their columns. Markup and escape sequences in a name are shown as text."""
    one, other = await web.request_approval(), await web.request_approval()
    await change(web, one.run_id, target="[red]shop[/red]")
    await change(web, other.run_id, target="\x1b]0;owned\x07\x1b[2Jr")
    async with on_terminal(web, "run", "list") as (terminal, process):
        await terminal.ended()
        assert await asyncio.to_thread(process.wait) == 0
    assert "\x1b]0" not in terminal.raw and "\x1b[2J" not in terminal.raw
    heading, *rows = terminal.text.strip().splitlines()
    assert heading.split() == ["RUN", "BEGAN", "STATUS", "PLAYBOOK", "TARGET", "TOOK"]
    assert len(rows) == 2 and any("[red]shop[/red]" in row for row in rows)
    for row in rows:
        assert row.index("redis-disk-full") == heading.index("PLAYBOOK")
        assert row.index("awaiting_approval") == heading.index("STATUS")
    status, said = await piped(web, "run", "list")
    assert status == 0 and "RUN" not in said, "a program gets rows only"


@pytest.mark.promise(9)
async def test_the_progress_of_a_verification_is_shown_at_a_terminal_only(web: WebService) -> None:
    """A terminal shows the progress through a long log. A pipe gets only the result."""
    await web.request_approval()
    async with on_terminal(web, "audit", "verify") as (terminal, process):
        await terminal.ended()
        assert await asyncio.to_thread(process.wait) == 4
    size = await web.head()
    assert "verifying entries" in terminal.text and f"{size}/{size}" in terminal.text
    status, said = await piped(web, "audit", "verify")
    assert status == 4 and "verifying entries" not in said


async def test_the_progress_of_a_replay_is_shown_at_a_terminal_only(web: WebService) -> None:
    """A terminal shows the progress through a long history. A pipe gets only the result."""
    await web.request_approval()
    async with on_terminal(web, "playbook", "replay") as (terminal, process):
        await terminal.ended()
        assert await asyncio.to_thread(process.wait) == 0
    assert "running the history through the playbooks" in terminal.text
    status, said = await piped(web, "playbook", "replay")
    assert status == 0 and "running the history" not in said


@pytest.mark.promise(11)
async def test_a_first_start_shows_the_webhook_token_at_a_terminal_only(tmp_path: Path) -> None:
    """At a terminal, the first start shows the token, so that a person can copy it.

    A log, which other users may read, has only the file name. A second start does not show the token.
    """
    service = Remediator(tmp_path)
    service.inventory["services"] = {"redis": {"platform": {"kind": "supervisor", "url": "unix:///no", "program": "r"}}}
    del service.settings["webhook"]
    shown = "webhook token for Alertmanager, shown once: "
    service.write()
    for first in (True, False):
        async with at_terminal("serve", "--config", str(service.config)) as (terminal, process):
            await terminal.shows("serving")
            process.send_signal(signal.SIGTERM)
            await terminal.ended()
        token = (tmp_path / "state" / "webhook.token").read_text().strip()
        assert (f"{shown}{token}" in terminal.text) is first
        assert terminal.text.count(token) == int(first)


async def test_a_run_is_watched_until_it_ends(web: WebService) -> None:
    """The command shows each new state of the run, and ends with the run."""
    asked = await web.request_approval()
    async with on_terminal(web, "run", "show", "@latest", "--watch", "0.2") as (terminal, process):
        await terminal.shows("awaiting_approval", "Planned calls")
        assert process.returncode is None
        now = web.clock.now()
        await change(web, asked.run_id, status="cancelled", reason="rejected", finished_at=now)
        await terminal.shows("cancelled (rejected)")
        await terminal.ended()
        assert await asyncio.to_thread(process.wait) == 0


async def test_a_watched_list_ends_at_ctrl_c(web: WebService) -> None:
    """The list shows new runs, and Ctrl-C ends the command without a traceback."""
    async with on_terminal(web, "run", "list", "--open", "--watch", "0.2") as (terminal, process):
        await terminal.shows("no runs")
        asked = await web.request_approval()
        await terminal.shows(asked.run_id)
        process.send_signal(signal.SIGINT)
        await terminal.ended()
        assert await asyncio.to_thread(process.wait) in (1, 130)
    assert "Traceback" not in terminal.text


FILTERS: dict[str, tuple[str, ...]] = {
    "status": ("--status", "cancelled"),
    "playbook": ("--playbook", "app-down"),
    "target": ("--target", "app"),
    "severity": ("--severity", "critical"),
    "until": ("--until", "1h"),
}


@pytest.mark.parametrize("argv", FILTERS.values(), ids=FILTERS)
async def test_a_filter_lists_what_it_names(web: WebService, argv: tuple[str, ...]) -> None:
    """Two runs differ in every filtered property, and each filter shows only the matching run."""
    old = await web.request_approval(labels={"severity": "critical"})
    new = await web.request_approval(labels={"severity": "warning"})
    began = web.clock.now() - timedelta(hours=2)
    values = {"status": "cancelled", "reason": "rejected", "playbook": "app-down", "target": "app"}
    await change(web, old.run_id, **values, severity="critical", created_at=began, finished_at=began)
    status, said = await piped(web, "run", "list", *argv)
    assert status == 0 and old.run_id in said and new.run_id not in said, said
    for others in (("--open",), ("--since", "1h"), ("--limit", "1")):
        status, said = await piped(web, "run", "list", *others)
        assert status == 0 and new.run_id in said and old.run_id not in said, said


@pytest.mark.parametrize(
    "name",
    [lambda run: run, lambda run: run.removeprefix("run-"), lambda run: run[:10], lambda run: "@latest"],
    ids=["the ID", "without its kind", "its beginning", "@latest"],
)
async def test_a_run_is_found_by(web: WebService, name: Callable[[str], str]) -> None:
    """A run is found by every name that identifies exactly one run."""
    web.numbers = 11110000
    first = await web.request_approval()
    await change(web, first.run_id, created_at=web.clock.now() - timedelta(hours=1))
    web.numbers = 22220000
    second = await web.request_approval()
    status, said = await piped(web, "run", "show", name(second.run_id))
    assert status == 0 and said.splitlines()[0].startswith(second.run_id), said


async def test_a_beginning_of_several_ids_names_them(web: WebService) -> None:
    """If an ID prefix matches several runs, the command lists them and chooses none."""
    web.numbers = 11110000
    first, second = await web.request_approval(), await web.request_approval()
    status, said = await piped(web, "run", "show", "run-1111")
    assert status != 0 and said.strip().count("\n") == 0, said
    assert f"{first.run_id}, {second.run_id}; write more of it" in said
    status, said = await piped(web, "run", "show", "run-9999")
    assert status != 0 and "Traceback" not in said and "run-9999" in said


async def test_latest_of_nothing_is_an_error(web: WebService) -> None:
    """In a new installation, @latest is an error, because there is no run."""
    for noun in ("run", "incident"):
        status, said = await piped(web, noun, "show", "@latest")
        assert status != 0 and "yet, so @latest does not exist" in said, (noun, said)
