"""The client of supervisord, against a real supervisord."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from remediator.clients.endpoints import Endpoint
from remediator.clients.host.supervisor import Fault, Process, ProcessPin, ProcessState, Supervisor, SupervisorRefused
from remediator.clients.http import HttpRefused
from remediator.errors import BadAnswer, TargetError, TimedOut, Unreachable
from tests.support.fake_servers import peer, reply
from tests.support.servers import until
from tests.support.servers.supervisord import Supervisord

PRINT = "import sys; sys.stdout.buffer.write({!r}); sys.stdout.flush(); import time; time.sleep(60)"


@pytest.fixture
async def client(supervisord: Supervisord) -> AsyncIterator[Supervisor]:
    """Return a client of a supervisord with a few small programs."""
    supervisord.program("sleeper", "sleep 1000")
    supervisord.program("broken", "/nonexistent/program")
    supervisord.program("crasher", "false", "startsecs=1", "startretries=0")
    supervisord.program("slow", "sleep 1000", "startsecs=30")
    script = supervisord.folder / "noisy.py"
    script.write_text(PRINT.format(b"caf\xc3\xa9 \x1b[31mred\x00\x1b[0m <&>\n" * 5))
    supervisord.program("noisy", f"{sys.executable} {script}", "redirect_stderr=true")
    script = supervisord.folder / "binary.py"
    script.write_text(PRINT.format(b"\xff\xfe" * 50))
    supervisord.program("binary", f"{sys.executable} {script}")
    supervisord.start()
    client = Supervisor(Endpoint.model_validate({"url": supervisord.url, "timeout": "60s"}))
    yield client
    await client.aclose()


async def test_the_states_of_supervisord_and_its_processes(client: Supervisor) -> None:
    """A program that does not run has neither pid nor start time."""
    assert await client.state() == "RUNNING"
    processes = {each.name: each for each in await client.processes()}
    assert set(processes) == {"sleeper", "broken", "crasher", "slow", "noisy", "binary"}
    sleeper = processes["sleeper"]
    assert (sleeper.state, sleeper.pid, sleeper.started) == (ProcessState.STOPPED, 0, None)
    assert sleeper.full_name == "sleeper"


async def test_start_and_stop_change_the_process(client: Supervisor) -> None:
    """A started process has a pid and a start time. A stopped process has no pid and is gone."""
    await client.start("sleeper")
    running = await client.process("sleeper")
    assert running.state is ProcessState.RUNNING
    assert running.started is not None
    assert (running.now - running.started).total_seconds() < 60
    assert Path(f"/proc/{running.pid}").exists()
    await client.stop("sleeper")
    assert (await client.process("sleeper")).state is ProcessState.STOPPED
    assert not Path(f"/proc/{running.pid}").exists()


async def test_a_signal_reaches_the_process(client: Supervisor) -> None:
    """The signal TERM, given by name, ends the process."""
    await client.start("sleeper")
    await client.signal("sleeper", "TERM")
    process = await client.process("sleeper")
    assert process.state in (ProcessState.EXITED, ProcessState.RUNNING)


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("missing", Fault.BAD_NAME),
        ("broken", Fault.NO_FILE),
        ("crasher", Fault.SPAWN_ERROR),
    ],
)
async def test_a_start_that_fails_says_why(client: Supervisor, name: str, fault: Fault) -> None:
    """The error has the name of the XML-RPC fault, and not only its number."""
    with pytest.raises(SupervisorRefused) as refused:
        await client.start(name)
    assert refused.value.fault is fault


async def test_starting_a_running_process_has_its_own_fault(client: Supervisor) -> None:
    """A second start, a second stop and a signal to a stopped process have three different faults."""
    await client.start("sleeper")
    with pytest.raises(SupervisorRefused) as refused:
        await client.start("sleeper")
    assert refused.value.fault is Fault.ALREADY_STARTED
    with pytest.raises(SupervisorRefused) as refused:
        await client.signal("sleeper", "NOSUCH")
    assert refused.value.fault is Fault.BAD_SIGNAL
    await client.stop("sleeper")
    for again in (client.stop("sleeper"), client.signal("sleeper", "HUP")):
        with pytest.raises(SupervisorRefused) as refused:
            await again
        assert refused.value.fault is Fault.NOT_RUNNING


@pytest.mark.promise(3)
async def test_a_process_that_was_replaced_since_the_plan_is_left_alone(client: Supervisor) -> None:
    """If the pid differs from the planned one, neither stop nor signal is sent."""
    await client.start("sleeper")
    planned = (await client.process("sleeper")).pin
    await client.stop("sleeper", expected=planned)
    await client.start("sleeper")
    successor = await client.process("sleeper")
    for change in (client.stop("sleeper", expected=planned), client.signal("sleeper", "KILL", expected=planned)):
        with pytest.raises(TargetError, match="nothing was changed"):
            await change
    later = await client.process("sleeper")
    assert later == _at(successor, later)
    assert ProcessPin(successor.pid, successor.started) == successor.pin


def _at(process: Process, later: Process) -> Process:
    """Return the same process at a later time."""
    return Process(**{**_fields(process), "now": later.now, "description": later.description})


def _fields(process: Process) -> dict[str, object]:
    return {name: getattr(process, name) for name in Process.__slots__}


@pytest.mark.promise(3)
async def test_a_start_that_exceeds_the_timeout_is_unknown_and_continues(client: Supervisor) -> None:
    """The client stops waiting with an unknown outcome, and supervisord continues to start the process."""
    with pytest.raises(TimedOut):
        await client.start("slow", seconds=0.3)
    assert (await client.process("slow")).state is ProcessState.STARTING


@pytest.mark.promise(3)
async def test_a_hung_supervisord_is_unknown_and_a_dead_one_is_unreachable(
    client: Supervisor, supervisord: Supervisord
) -> None:
    """After SIGSTOP the call may still happen later: TimedOut. After kill -9 nothing happened: Unreachable."""
    await client.start("sleeper")
    supervisord.pause()
    with pytest.raises(TimedOut):
        await client.stop("sleeper", seconds=0.3)
    supervisord.resume()
    until(lambda: "stopped: sleeper" in supervisord.log, "the stop that was not answered, done all the same")
    supervisord.kill()
    with pytest.raises(Unreachable):
        await client.start("sleeper")


async def test_logs_with_any_bytes_are_returned(client: Supervisor) -> None:
    """The client returns a log with colours, zero bytes and a truncated character."""
    await client.start("noisy")
    log = Path((await client.process("noisy")).stdout_log)
    until(lambda: log.stat().st_size > 100, "output of the program")
    text = await client.stdout("noisy")
    assert text.splitlines()[0] == "café  [31mred  [0m <&>"
    line = len(b"caf\xc3\xa9 \x1b[31mred\x00\x1b[0m <&>\n")
    inside_a_character = line * 5 - 4  # the second byte of é
    assert (await client.stdout("noisy", inside_a_character)).startswith("  [31mred")
    with pytest.raises(SupervisorRefused) as refused:
        await client.stderr("noisy")
    assert refused.value.fault is Fault.NO_FILE


async def test_a_log_that_is_not_text_is_refused(client: Supervisor) -> None:
    """A log that supervisord cannot send by XML-RPC, which it answers with 500, is refused."""
    await client.start("binary")
    log = Path((await client.process("binary")).stdout_log)
    until(lambda: log.stat().st_size == 100, "output of the program")
    with pytest.raises(HttpRefused):
        await client.stdout("binary")


async def test_the_text_after_bytes_that_are_no_text_is_returned(client: Supervisor) -> None:
    """The client returns the text after invalid bytes: Redis logs such bytes for damaged data, and then the reason."""
    await client.start("noisy")
    log = Path((await client.process("noisy")).stdout_log)
    until(lambda: log.stat().st_size > 100, "output of the program")
    with log.open("ab") as file:
        file.write(b"key \xff\xfe\n" + b"[info] more\n" * 20 + b"Terminating server\n")
    assert (await client.stdout("noisy")).splitlines()[-1] == "Terminating server"


async def test_a_tcp_server_requires_its_credentials(
    client: Supervisor, supervisord: Supervisord, tmp_path: Path
) -> None:
    """supervisord accepts the right password and refuses a wrong or missing one."""
    (tmp_path / "right").write_text("opensesame\n")
    (tmp_path / "wrong").write_text("guess\n")
    url = f"http://127.0.0.1:{supervisord.port}"
    for settings, allowed in (("right", True), ("wrong", False), (None, False)):
        basic = {"username": "operator", "password_file": tmp_path / settings} if settings else None
        other = Supervisor(Endpoint.model_validate({"url": url, "basic": basic}))
        if allowed:
            assert await other.state() == "RUNNING"
        else:
            with pytest.raises(HttpRefused) as refused:
                await other.state()
            assert refused.value.status == 401
        await other.aclose()


VALUE = "<methodResponse><params><param><value>{}</value></param></params></methodResponse>"
BOMB = "<?xml version='1.0'?><!DOCTYPE x [<!ENTITY a 'aaaa'>]>" + VALUE.format("&a;")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"hello",
        b"<html></html>",
        b"<methodResponse></methodResponse>",
        VALUE.format("<int>x</int>").encode(),
        VALUE.format("<struct></struct>").encode(),
        BOMB.encode(),
    ],
)
async def test_an_invalid_response_is_a_bad_answer(body: bytes) -> None:
    """An invalid answer is a BadAnswer, and the client does not interpret it."""
    async with peer(reply(200, body)) as server:
        client = Supervisor(Endpoint(url=server.url))
        with pytest.raises(BadAnswer):
            await client.process("x")
        await client.aclose()
