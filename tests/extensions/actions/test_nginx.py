"""``nginx.rate_limit`` and ``nginx.maintenance`` on a real nginx: tested before use, active once reported, and
undone."""

from __future__ import annotations

import asyncio
import os
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from remediator.core.outcome import Outcome
from remediator.errors import Refused, TargetError, Unreachable
from remediator.extensions.actions.base import Action, EffectStatus
from remediator.extensions.actions.nginx_maintenance import NginxMaintenance
from remediator.extensions.actions.nginx_rate_limit import NginxRateLimit
from remediator.extensions.clientset import ClientSet
from remediator.playbooks.inventory import Service
from tests.support.action_runner import do, observe, plan, service, undo
from tests.support.reduced_rights import nobody
from tests.support.servers import until
from tests.support.servers.nginx import Nginx

LIMIT, MAINTENANCE = NginxRateLimit(ClientSet()), NginxMaintenance(ClientSet())
ACTIONS: dict[str, Action] = {LIMIT.name: LIMIT, MAINTENANCE.name: MAINTENANCE}


def target(nginx: Nginx, **more: str) -> Service:
    where = {"include": nginx.rules, "pid_file": nginx.folder / "nginx.pid", "config": nginx.config, "zone": "tight"}
    return service("app", nginx={**{key: str(value) for key, value in where.items()}, **more})


async def test_a_limit_is_set_and_removed(nginx: Nginx) -> None:
    """The limit allows one address its burst and no more; after the undo, all requests are accepted."""
    call = await plan(LIMIT, target(nginx), level="strict")
    result = await do(LIMIT, target(nginx), call=call, level="strict")

    assert result.outcome is Outcome.OK
    until(lambda: set(nginx.statuses(12)[7:]) == {429}, "the old worker is gone, and the new one says no")

    await undo(LIMIT, ACTIONS, target(nginx), call, result)
    until(lambda: set(nginx.statuses(12)) == {200}, "no limit any more")


async def test_maintenance_answers_503_and_ends(nginx: Nginx) -> None:
    """During maintenance, every request gets 503 with Retry-After; after it, none does."""
    call, since = await plan(MAINTENANCE, target(nginx)), datetime.now(UTC)
    result = await do(MAINTENANCE, target(nginx), call=call)
    until(lambda: set(nginx.statuses(3)) == {503}, "maintenance")
    assert (await observe(MAINTENANCE, target(nginx), call, since=since)).happened is EffectStatus.YES

    await undo(MAINTENANCE, ACTIONS, target(nginx), call, result)
    until(lambda: set(nginx.statuses(3)) == {200}, "maintenance is over")
    assert "return 503" not in nginx.rules.read_text()


async def test_a_configuration_that_nginx_rejects_is_reverted(nginx: Nginx) -> None:
    """If nginx rejects the new configuration, the file is restored, and nginx continues unchanged."""
    with pytest.raises(Refused, match="the old one was restored"):
        await do(LIMIT, target(nginx, zone="nowhere"), level="normal")

    assert "limit_req" not in nginx.rules.read_text()
    assert set(nginx.statuses(3)) == {200}


async def test_a_foreign_file_is_not_replaced(nginx: Nginx) -> None:
    """A file without the mark of remediator is refused."""
    nginx.rules.write_text("deny all;\n")

    with pytest.raises(TargetError, match="not managed by remediator"):
        await plan(LIMIT, target(nginx), level="strict")


async def test_a_file_that_changed_after_the_plan_is_refused(nginx: Nginx) -> None:
    """If another run or another remediator changed the file after planning, the action is refused."""
    call = await plan(LIMIT, target(nginx), level="strict")
    await do(LIMIT, target(nginx), level="gentle")

    with pytest.raises(TargetError, match="was changed after planning"):
        await do(LIMIT, target(nginx), call=call, level="strict")


async def test_an_nginx_that_does_not_run_is_refused(nginx: Nginx) -> None:
    """If nginx is not running, no file is written."""
    nginx.stop()

    with pytest.raises(TargetError):
        await plan(LIMIT, target(nginx), level="strict")
    assert not nginx.rules.exists()


async def test_a_rate_limit_does_not_end_maintenance(nginx: Nginx) -> None:
    """A rate limit must not replace maintenance, because it would admit the requests that maintenance refuses."""
    await do(MAINTENANCE, target(nginx))

    with pytest.raises(TargetError, match="maintenance mode, which a rate limit would end"):
        await plan(LIMIT, target(nginx), level="strict")


async def test_an_unknown_outcome_is_observed(nginx: Nginx) -> None:
    """The effect is proved only if the file was written and a worker started after the write."""
    since = datetime.now(UTC)
    call = await plan(LIMIT, target(nginx), level="strict")
    assert (await observe(LIMIT, target(nginx), call, since=since, level="strict")).happened is EffectStatus.NO
    nginx.rules.write_text(str(call.arguments["content"]))
    later = datetime.now(UTC) + timedelta(seconds=10)  # no worker is younger than this
    written = await observe(LIMIT, target(nginx), call, since=later, level="strict")
    assert written.happened is EffectStatus.NO, "written, and nobody has read it"

    nginx.rules.unlink()
    await do(LIMIT, target(nginx), call=call, level="strict")
    assert (await observe(LIMIT, target(nginx), call, since=since, level="strict")).happened is EffectStatus.YES


RULES = pytest.mark.parametrize(
    ("action", "given"), [(LIMIT, {"level": "strict"}), (MAINTENANCE, {})], ids=["limit", "maintenance"]
)


@RULES
async def test_without_an_nginx_nothing_is_planned(action: Action, given: dict[str, str], tmp_path: Path) -> None:
    """The plan fails if the inventory has no nginx, or if the PID file names no process."""
    with pytest.raises(TargetError, match="service 'app' has no 'nginx' in the inventory"):
        await plan(action, service("app"), **given)
    (tmp_path / "pid").write_text("nginx")
    where = {"include": str(tmp_path / "x.conf"), "pid_file": str(tmp_path / "pid"), "zone": "tight"}
    with pytest.raises(TargetError, match="does not contain a process ID"):
        await plan(action, service("app", nginx=where), **given)
    assert not (tmp_path / "x.conf").exists()


@RULES
async def test_a_file_that_may_not_be_written_stays(action: Action, given: dict[str, str], nginx: Nginx) -> None:
    """If the file is not writable, the action is refused and nginx continues unchanged."""
    call = await plan(action, target(nginx), **given)
    with nobody(nginx.rules.parent), pytest.raises(Refused, match="cannot write"):
        await do(action, target(nginx), call=call, **given)
    assert not nginx.rules.exists()
    assert set(nginx.statuses(3)) == {200}


@RULES
async def test_an_nginx_that_stopped_is_refused(action: Action, given: dict[str, str], nginx: Nginx) -> None:
    """If nginx stops after planning, no file is written that its next start would read."""
    call = await plan(action, target(nginx), **given)
    nginx.stop()
    with pytest.raises(TargetError):
        await do(action, target(nginx), call=call, **given)
    assert not nginx.rules.exists()


@RULES
async def test_a_reload_that_times_out_is_unknown_and_then_observed(
    action: Action, given: dict[str, str], nginx: Nginx
) -> None:
    """The master hangs, and the call ends at its timeout.

    When the master continues, it reloads once, and an observation shows this.
    """
    call = await plan(action, target(nginx), **given)
    await asyncio.sleep(0.2)  # start times have a resolution of 10 ms
    since = datetime.now(UTC)
    os.kill(nginx.pid, signal.SIGSTOP)
    try:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(2):  # the engine limits every call in the same way
                await do(action, target(nginx), call=call, **given)
        assert (await observe(action, target(nginx), call, since=since, **given)).happened is EffectStatus.NO
    finally:
        os.kill(nginx.pid, signal.SIGCONT)
    while (await observe(action, target(nginx), call, since=since, **given)).happened is not EffectStatus.YES:
        await asyncio.sleep(0.1)


@RULES
async def test_a_failed_configuration_test_restores_the_file(
    action: Action, given: dict[str, str], nginx: Nginx, tmp_path: Path
) -> None:
    """Only the exit status of ``nginx -t`` counts; after a failure, the file is restored."""
    binary = tmp_path / "nginx-of-another-kind"
    binary.write_text("#!/bin/sh\nhead -c 300 /dev/urandom\nexit 3\n")
    binary.chmod(0o755)
    with pytest.raises(Refused, match="the old one was restored"):
        await do(action, target(nginx, binary=str(binary)), **given)
    assert "return" not in nginx.rules.read_text() and "limit_req" not in nginx.rules.read_text()


async def test_maintenance_that_was_changed_or_restarted_since_is_refused(nginx: Nginx) -> None:
    """The end of maintenance is refused if another run changed the file, or if another nginx uses it."""
    call = await plan(MAINTENANCE, target(nginx))
    await do(LIMIT, target(nginx), level="gentle")
    with pytest.raises(TargetError, match="was changed after planning"):
        await do(MAINTENANCE, target(nginx), call=call)
    nginx.rules.unlink()
    nginx.stop()
    nginx.start()
    with pytest.raises(TargetError, match="restarted after planning"):
        await do(MAINTENANCE, target(nginx), call=call)


@RULES
async def test_a_timeout_before_the_reload_restores_the_file(
    action: Action, given: dict[str, str], nginx: Nginx, tmp_path: Path
) -> None:
    """If ``nginx -t`` does not start or hangs, the file is restored, so no untested file waits for the next reload."""
    before = nginx.rules.read_text() if nginx.rules.exists() else ""
    with pytest.raises(Unreachable):
        await do(action, target(nginx, binary="/no/such/nginx"), **given)
    slow = tmp_path / "slow-nginx"
    slow.write_text("#!/bin/sh\nsleep 60\n")
    slow.chmod(0o755)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):  # the engine limits every call in the same way
            await do(action, target(nginx, binary=str(slow)), **given)
    assert nginx.rules.read_text().splitlines()[1:] == before.splitlines()[1:]
