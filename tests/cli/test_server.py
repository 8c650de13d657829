"""With --server, commands use the API with a token and no database, and print the output of local commands."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import uvicorn

from remediator.web.application import Application
from tests.support import commands
from tests.support.servers import free_port
from tests.support.web_service import WebService, web_service


@pytest.fixture
async def web(tmp_path: Path) -> AsyncIterator[WebService]:
    """Return a running service that uses the real time, because the commands have no other clock."""
    async with web_service(tmp_path) as made:
        made.clock.time = datetime.now(UTC)
        yield made


@pytest.fixture
async def url(web: WebService) -> AsyncIterator[str]:
    """Return the address of the service."""
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(Application(web.service), port=port, log_level="warning", lifespan="off"))
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.02)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    await serving


async def _run(web: WebService, who: str, *argv: str) -> tuple[int, str]:
    """Run a command as this person, in a folder without settings. Return its exit status and its output."""
    empty = web.service.config.base_dir / "laptop"
    empty.mkdir(exist_ok=True)
    environment = {**os.environ, "REMEDIATOR_TOKEN": web.tokens.get(who, "")}
    done = await asyncio.to_thread(commands.remediator, *argv, folder=empty, environment=environment)
    return done.returncode, done.stdout + done.stderr


READS = (
    ("run", "list"),
    ("run", "list", "--open", "--playbook", "redis-disk-full", "--since", "1h", "--format", "json"),
    ("run", "show", "@latest"),
    ("run", "timeline", "@latest"),
    ("incident", "list"),
    ("incident", "show", "@latest"),
    ("approval", "list"),
    ("stop", "list"),
    ("status",),
    ("playbook", "list"),
    ("report", "promotion"),
    ("memory", "list"),
)


def _without_ages(text: str) -> str:
    """Return the output without ages and countdowns, which change between two commands."""
    return re.sub(r"\(in [^)]*\)|\([^)]* ago\)", "()", text)


@pytest.mark.parametrize("argv", READS, ids=" ".join)
async def test_reading_commands_print_the_same_over_the_server(
    web: WebService, url: str, argv: tuple[str, ...]
) -> None:
    """A reading command prints the same lines from the database and from the server."""
    await web.request_approval()
    local = ("--config", str(web.service.config.base_dir / "remediator.yaml"))
    here, there = await asyncio.gather(_run(web, "ann", *argv, *local), _run(web, "ann", *argv, "--server", url))
    assert _without_ages(here[1]) == _without_ages(there[1])
    assert here[0] == there[0] == 0, here[1]


@pytest.mark.promise(6)
async def test_a_decision_over_the_server_counts_once(web: WebService, url: str) -> None:
    """A person approves a run by the beginning of its ID. The decision counts once and needs the person's rights."""
    asked = await web.request_approval()
    server = ("--server", url)
    code, said = await _run(web, "victor", "approval", "approve", asked.run_id, *server)
    assert code == 3 and "needs the role 'approver'" in said
    code, said = await _run(web, "ann", "approval", "approve", asked.run_id, "--reason", "seen", *server)
    assert code == 0 and "approve by ann recorded" in said
    assert (await web.state(asked)).status == "approved"
    code, said = await _run(web, "bob", "approval", "approve", asked.run_id, *server)
    assert code == 1 and "nothing was changed" in said


async def test_changing_commands_work_over_the_server(web: WebService, url: str) -> None:
    """A person can start, acknowledge, comment on and cancel a run, create a stop, and set a mode over the server.

    A dry run plans on the server and changes nothing.
    """
    server = ("--server", url)
    start = ("run", "start", "redis-disk-full", "--service", "redis", *server)
    code, said = await _run(web, "oscar", *start, "--dry-run")
    assert code == 0 and "match    redis-disk-full, target redis, mode approve" in said, said
    code, said = await _run(web, "oscar", *start, "--reason", "by hand")
    assert code == 0 and "started; to follow it" in said, said
    for argv, told in (
        (("run", "acknowledge", "@latest"), "acknowledged by oscar"),
        (("run", "comment", "@latest", "the disk is old"), "comment added by oscar"),
        (("run", "show", "@latest"), "oscar: the disk is old"),
        (("run", "cancel", "@latest", "--reason", "no"), "is being cancelled"),
        (("stop", "create", "--reason", "look"), "everything stopped"),
        (("playbook", "set-mode", "redis-disk-full", "--mode", "shadow", "--reason", "look"), "approve -> shadow"),
    ):
        code, said = await _run(web, "oscar", *argv, *server)
        assert code == 0 and told in said, (argv, said)
    assert "by hand" in await web.audit_text()


@pytest.mark.parametrize(
    ("server", "who", "told"),
    [
        ("http://192.0.2.1", "ann", "is not encrypted, so others on the network could read your token; use https"),
        ("ftp://x", "ann", "is not a URL"),
        ("http://127.0.0.1:1", "ann", "cannot be reached"),
        ("http://127.0.0.1:1", "", "no operator token"),
    ],
)
async def test_a_wrong_server_is_one_line(web: WebService, server: str, who: str, told: str) -> None:
    """The error about a wrong server is one line. The command sends no token over an unencrypted network."""
    code, said = await _run(web, who, "run", "list", "--server", server)
    assert code in (2, 3) and told in said and said.count("\n") == 1, said
