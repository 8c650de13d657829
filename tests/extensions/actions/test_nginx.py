"""nginx.rate_limit and nginx.maintenance on a real nginx: tested before use, in use when they say so, put back."""

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
    """One address gets its burst and no more; after the undo it gets everything."""
    call = await plan(LIMIT, target(nginx), level="strict")
    result = await do(LIMIT, target(nginx), call=call, level="strict")

    assert result.outcome is Outcome.OK
    until(lambda: set(nginx.statuses(12)[7:]) == {429}, "the old worker is gone, and the new one says no")

    await undo(LIMIT, ACTIONS, target(nginx), call, result)
    until(lambda: set(nginx.statuses(12)) == {200}, "no limit any more")


async def test_maintenance_answers_503_and_ends(nginx: Nginx) -> None:
    """Every request, with Retry-After; then none."""
    call, since = await plan(MAINTENANCE, target(nginx)), datetime.now(UTC)
    result = await do(MAINTENANCE, target(nginx), call=call)
    until(lambda: set(nginx.statuses(3)) == {503}, "maintenance")
    assert (await observe(MAINTENANCE, target(nginx), call, since=since)).happened is EffectStatus.YES

    await undo(MAINTENANCE, ACTIONS, target(nginx), call, result)
    until(lambda: set(nginx.statuses(3)) == {200}, "maintenance is over")
    assert "return 503" not in nginx.rules.read_text()


async def test_what_nginx_does_not_take_is_put_back(nginx: Nginx) -> None:
    """A zone that is not there: the file is as before, and nginx goes on as before."""
    with pytest.raises(Refused, match="the old one was restored"):
        await do(LIMIT, target(nginx, zone="nowhere"), level="normal")

    assert "limit_req" not in nginx.rules.read_text()
    assert set(nginx.statuses(3)) == {200}


async def test_a_foreign_file_is_not_replaced(nginx: Nginx) -> None:
    """It does not bear our mark."""
    nginx.rules.write_text("deny all;\n")

    with pytest.raises(TargetError, match="not managed by remediator"):
        await plan(LIMIT, target(nginx), level="strict")


async def test_a_file_that_changed_after_the_plan_is_refused(nginx: Nginx) -> None:
    """Another run, or another remediator, was faster."""
    call = await plan(LIMIT, target(nginx), level="strict")
    await do(LIMIT, target(nginx), level="gentle")

    with pytest.raises(TargetError, match="was changed after planning"):
        await do(LIMIT, target(nginx), call=call, level="strict")


async def test_an_nginx_that_does_not_run_is_refused(nginx: Nginx) -> None:
    """Nothing is written."""
    nginx.stop()

    with pytest.raises(TargetError):
        await plan(LIMIT, target(nginx), level="strict")
    assert not nginx.rules.exists()


async def test_one_does_not_end_the_other(nginx: Nginx) -> None:
    """A rate limit would let requests in that maintenance keeps out."""
    await do(MAINTENANCE, target(nginx))

    with pytest.raises(TargetError, match="maintenance mode, which a rate limit would end"):
        await plan(LIMIT, target(nginx), level="strict")


async def test_an_unknown_outcome_is_observed(nginx: Nginx) -> None:
    """Written and read by a worker that was started since, or not."""
    since = datetime.now(UTC)
    call = await plan(LIMIT, target(nginx), level="strict")
    assert (await observe(LIMIT, target(nginx), call, since=since, level="strict")).happened is EffectStatus.NO
    nginx.rules.write_text(str(call.arguments["content"]))
    later = datetime.now(UTC) + timedelta(seconds=10)  # no worker is as young as that
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
    """None in the inventory, or a pid file that names nobody."""
    with pytest.raises(TargetError, match="service 'app' has no 'nginx' in the inventory"):
        await plan(action, service("app"), **given)
    (tmp_path / "pid").write_text("nginx")
    where = {"include": str(tmp_path / "x.conf"), "pid_file": str(tmp_path / "pid"), "zone": "tight"}
    with pytest.raises(TargetError, match="does not contain a process ID"):
        await plan(action, service("app", nginx=where), **given)
    assert not (tmp_path / "x.conf").exists()


@RULES
async def test_a_file_that_may_not_be_written_stays(action: Action, given: dict[str, str], nginx: Nginx) -> None:
    """Refused, and nginx goes on as before."""
    call = await plan(action, target(nginx), **given)
    with nobody(nginx.rules.parent), pytest.raises(Refused, match="cannot write"):
        await do(action, target(nginx), call=call, **given)
    assert not nginx.rules.exists()
    assert set(nginx.statuses(3)) == {200}


@RULES
async def test_an_nginx_that_stopped_is_refused(action: Action, given: dict[str, str], nginx: Nginx) -> None:
    """Between the plan and the act: nothing is written for the next one to read."""
    call = await plan(action, target(nginx), **given)
    nginx.stop()
    with pytest.raises(TargetError):
        await do(action, target(nginx), call=call, **given)
    assert not nginx.rules.exists()


@RULES
async def test_a_reload_that_takes_too_long_is_unknown_and_then_seen(
    action: Action, given: dict[str, str], nginx: Nginx
) -> None:
    """Its master hangs: cut off in time. Once it goes on it does what it was told, once, and a look says so."""
    call = await plan(action, target(nginx), **given)
    await asyncio.sleep(0.2)  # its workers become older than what is to come: the kernel tells hundredths of a second
    since = datetime.now(UTC)
    os.kill(nginx.pid, signal.SIGSTOP)
    try:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(2):  # as the engine bounds every call
                await do(action, target(nginx), call=call, **given)
        assert (await observe(action, target(nginx), call, since=since, **given)).happened is EffectStatus.NO
    finally:
        os.kill(nginx.pid, signal.SIGCONT)
    while (await observe(action, target(nginx), call, since=since, **given)).happened is not EffectStatus.YES:
        await asyncio.sleep(0.1)


@RULES
async def test_nonsense_from_the_test_of_the_configuration_is_a_no(
    action: Action, given: dict[str, str], nginx: Nginx, tmp_path: Path
) -> None:
    """Whatever it prints, only its status says yes; what was written is put back."""
    binary = tmp_path / "nginx-of-another-kind"
    binary.write_text("#!/bin/sh\nhead -c 300 /dev/urandom\nexit 3\n")
    binary.chmod(0o755)
    with pytest.raises(Refused, match="the old one was restored"):
        await do(action, target(nginx, binary=str(binary)), **given)
    assert "return" not in nginx.rules.read_text() and "limit_req" not in nginx.rules.read_text()


async def test_maintenance_that_was_changed_or_restarted_since_is_refused(nginx: Nginx) -> None:
    """Another run was faster, or another nginx reads the file by now."""
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
    """The test of the configuration cannot be started, or never ends: an untested file would wait for the next
    reload, and nobody would take it away."""
    before = nginx.rules.read_text() if nginx.rules.exists() else ""
    with pytest.raises(Unreachable):
        await do(action, target(nginx, binary="/no/such/nginx"), **given)
    slow = tmp_path / "slow-nginx"
    slow.write_text("#!/bin/sh\nsleep 60\n")
    slow.chmod(0o755)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):  # as the engine bounds every call
            await do(action, target(nginx, binary=str(slow)), **given)
    assert nginx.rules.read_text().splitlines()[1:] == before.splitlines()[1:]
