"""``app.workers`` and ``app.reload`` on the bundled app under a real gunicorn."""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
from pathlib import Path

import pytest

from remediator.core.outcome import Outcome
from remediator.errors import Refused, TargetError
from remediator.extensions.actions.app_reload import AppReload
from remediator.extensions.actions.app_workers import AppWorkers
from remediator.extensions.actions.base import Action, EffectStatus
from remediator.extensions.clientset import ClientSet
from remediator.playbooks.inventory import Service
from tests.support.action_runner import do, observe, plan, service, undo
from tests.support.reduced_rights import nobody
from tests.support.servers import until
from tests.support.servers.app import App, MakeApp
from tests.support.servers.redis import Redis

WORLD = ClientSet()


@pytest.fixture
def app(make_app: MakeApp, redis_server: Redis) -> App:
    """Start the app with two workers, and wait until both run."""
    made = make_app(redis_server, SHOP_WEB_CONCURRENCY="2")
    until(lambda: len(made.workers()) == 2, "two workers")
    return made


def target(app: App, least: int = 1, most: int = 4) -> Service:
    server = {"pid_file": str(app.folder / "state/app.pid"), "min_workers": least, "max_workers": most}
    return service("app", app_server=server)


async def test_workers_are_added_and_the_undo_removes_them(app: App) -> None:
    """The action reports the number of workers before and after; its undo restores the earlier number."""
    action = AppWorkers(WORLD)
    call = await plan(action, target(app), by=2)
    result = await do(action, target(app), call=call, by=2)

    assert call.text.endswith("2 times: 2 to 4 workers")
    assert (result.outcome, len(app.workers())) == (Outcome.OK, 4)
    await undo(action, {action.name: action}, target(app), call, result)
    until(lambda: len(app.workers()) == 2, "as many as before; the kernel lists those that have just ended too")


async def test_the_bounds_of_the_inventory_hold(app: App) -> None:
    """The number of workers stays within the limits; a call that changes nothing is an error."""
    action = AppWorkers(WORLD)
    assert (await plan(action, target(app, most=3), to=64)).arguments["to"] == 3

    with pytest.raises(TargetError, match="the inventory allows 1 to 2"):
        await plan(action, target(app, most=2), by=5)


async def test_a_changed_number_of_workers_is_refused(app: App) -> None:
    """If another client changed the number of workers after planning, the action keeps that number and is refused."""
    action = AppWorkers(WORLD)
    call = await plan(action, target(app), by=1)
    app.signal(signal.SIGTTIN)
    until(lambda: len(app.workers()) == 3, "somebody's third worker")

    with pytest.raises(TargetError, match="has 3 workers; 2 when the plan was made"):
        await do(action, target(app), call=call, by=1)


async def test_a_restarted_master_is_refused(app: App) -> None:
    """After a restart, the master has its configured number of workers, so the plan no longer applies."""
    action = AppWorkers(WORLD)
    call = await plan(action, target(app), by=1)
    app.stop()
    app.start()

    with pytest.raises(TargetError, match="restarted after planning"):
        await do(action, target(app), call=call, by=1)


@pytest.mark.parametrize(("content", "says"), [("", "process ID"), ("x", "process ID"), ("4194305", "not running")])
async def test_a_pid_file_without_a_process_is_refused(tmp_path: Path, content: str, says: str) -> None:
    """No signal is sent if the PID file does not name a running process."""
    (tmp_path / "pid").write_text(content)
    nobody = service("app", app_server={"pid_file": str(tmp_path / "pid")})

    with pytest.raises(TargetError, match=says):
        await plan(AppWorkers(WORLD), nobody, by=1)


async def test_an_unknown_outcome_is_counted(app: App) -> None:
    """An observation of the old number of workers answers no, of the planned number yes, and of a number between them
    unknown."""
    action = AppWorkers(WORLD)
    call = await plan(action, target(app), by=2)
    seen = [(await observe(action, target(app), call, by=2)).happened]
    for workers in (3, 4):
        app.signal(signal.SIGTTIN)
        until(lambda workers=workers: len(app.workers()) == workers, f"{workers} workers")
        seen.append((await observe(action, target(app), call, by=2)).happened)

    assert seen == [EffectStatus.NO, EffectStatus.UNKNOWN, EffectStatus.YES]


async def test_a_reload_replaces_every_worker(app: App) -> None:
    """A reload replaces every worker and keeps the master process."""
    before, pid = app.workers(), app.pid
    result = await do(AppReload(WORLD), target(app))

    assert result.outcome is Outcome.OK
    until(lambda: bool(app.workers()) and not app.workers() & before, "none of before, not even as a zombie")
    assert app.pid == pid


async def test_a_process_of_another_user_is_not_signalled(app: App) -> None:
    """Both the process handle (pidfd) and the start time must belong to the planned process."""
    action = AppWorkers(WORLD)
    call = await plan(action, target(app), by=1)
    pid_file = app.folder / "state/app.pid"
    pid_file.write_text(str(os.getpid()))

    with pytest.raises(TargetError, match="no longer pid"):
        await do(action, target(app), call=call, by=1)


EITHER = pytest.mark.parametrize(
    ("action", "given"), [(AppWorkers(WORLD), {"by": 1}), (AppReload(WORLD), {})], ids=["workers", "reload"]
)


@EITHER
async def test_a_service_without_an_app_server_is_refused(
    action: Action, given: dict[str, int], tmp_path: Path
) -> None:
    """The error distinguishes a missing inventory entry, a missing PID file, an invalid PID file and a process that has
    ended."""
    with pytest.raises(TargetError, match="in the inventory; add it"):
        await plan(action, service("app"), **given)
    nowhere = service("app", app_server={"pid_file": str(tmp_path / "pid")})
    with pytest.raises(TargetError, match="cannot read"):
        await plan(action, nowhere, **given)
    (tmp_path / "pid").write_text("gunicorn")
    with pytest.raises(TargetError, match="process ID"):
        await plan(action, nowhere, **given)
    (tmp_path / "pid").write_text("4194305")
    with pytest.raises(TargetError, match="not running"):
        await plan(action, nowhere, **given)


@EITHER
async def test_a_server_without_permission_to_signal_is_refused(
    action: Action, given: dict[str, int], app: App
) -> None:
    """If the kernel refuses the signal, the action is refused and the workers do not change."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        pid_file = Path(folder) / "pid"
        pid_file.write_text((app.folder / "state/app.pid").read_text())
        pid_file.chmod(0o644)
        where = service("app", app_server={"pid_file": str(pid_file), "max_workers": 4})
        call, before = await plan(action, where, **given), app.workers()
        if os.geteuid() == 0:
            with nobody(), pytest.raises(Refused, match="belongs to another user"):
                await do(action, where, call=call, **given)
        assert app.workers() == before


@EITHER
async def test_a_server_that_stopped_is_refused(action: Action, given: dict[str, int], app: App) -> None:
    """If the server stops after planning, the action is refused."""
    call = await plan(action, target(app), **given)
    app.stop()
    with pytest.raises(TargetError):
        await do(action, target(app), call=call, **given)


@EITHER
async def test_a_hung_server_is_unknown_and_then_observed(action: Action, given: dict[str, int], app: App) -> None:
    """The call ends at its timeout, and an observation shows the outcome after the server continues.

    The reload then happens exactly once. The kernel discards the pending TTIN on SIGCONT, so the number of workers does
    not change.
    """
    call = await plan(action, target(app), **given)
    os.kill(app.pid, signal.SIGSTOP)
    try:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(2):  # the engine limits every call in the same way
                await do(action, target(app), call=call, **given)
        assert (await observe(action, target(app), call, **given)).happened is EffectStatus.NO
    finally:
        os.kill(app.pid, signal.SIGCONT)
    if isinstance(action, AppReload):
        while (await observe(action, target(app), call, **given)).happened is not EffectStatus.YES:
            await asyncio.sleep(0.1)
    else:
        assert (await observe(action, target(app), call, **given)).happened is EffectStatus.NO
        assert (await do(action, target(app), call=call, **given)).outcome is Outcome.OK


async def test_a_reload_of_a_restarted_master_is_refused(app: App) -> None:
    """If another client restarted the master after planning, the reload is not needed any more."""
    action = AppReload(WORLD)
    call = await plan(action, target(app))
    app.stop()
    app.start()
    with pytest.raises(TargetError, match="restarted after planning"):
        await do(action, target(app), call=call)
