"""Failures of ``redis.restore_backup``: the files of Redis stay in place unless everything is as planned."""

from __future__ import annotations

import asyncio
import resource
import shutil
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from remediator.errors import BadAnswer, ClientError, Refused, TargetError, TimedOut, Unreachable
from remediator.extensions.actions.base import Action, EffectStatus
from remediator.extensions.clientset import ClientSet
from remediator.extensions.platforms.supervisor import SupervisorPlatform
from remediator.extensions.registry import Registry
from remediator.playbooks.inventory import Service
from tests.support.action_runner import do, observe, plan, service
from tests.support.fake_servers import listener, peer, reply
from tests.support.reduced_rights import nobody
from tests.support.servers import until
from tests.support.servers.redis import MakeRedis
from tests.support.servers.supervisord import Supervisord
from tests.support.servers.unanswered import deaf


@dataclass
class Sick:
    """A stopped Redis with damaged files and one good backup."""

    action: Action
    data: Path
    backups: Path
    supervisord: Supervisord
    where: Callable[..., Service]

    def untouched(self) -> bool:
        """Return whether the files of Redis are still in place."""
        manifest = self.data / "appendonlydir" / "appendonly.aof.manifest"
        return [path.name for path in self.data.iterdir()] == ["appendonlydir"] and manifest.read_text() == "nonsense\n"


@pytest.fixture
async def sick(make_redis: MakeRedis, supervisord: Supervisord, tmp_path: Path) -> AsyncIterator[Sick]:
    """Return a stopped Redis under supervisord with damaged files and one good backup."""
    donor = make_redis()
    donor.ask("SET", "from", "backup")
    donor.ask("SAVE")
    data, backups = tmp_path / "data", tmp_path / "backups"
    (data / "appendonlydir").mkdir(parents=True)
    (data / "appendonlydir" / "appendonly.aof.manifest").write_text("nonsense\n")
    backups.mkdir()
    shutil.copy(donor.folder / "dump.rdb", backups / "good.rdb")
    port = donor.port
    donor.kill()
    supervisord.program("redis", f"redis-server --port {port} --dir {data} --appendonly yes", "startsecs=1")
    supervisord.start()

    def where(url: str = supervisord.url, program: str = "redis", **more: Any) -> Service:
        platform = {"kind": "supervisor", "url": url, "program": program}
        parts = {"disk": {"path": str(data)}, "backups": {"path": str(backups)}, **more}
        return service("redis", platform=platform, **{name: part for name, part in parts.items() if part})

    platform = SupervisorPlatform()
    world = ClientSet(platforms={platform.kind: platform})
    yield Sick(Registry().make_actions(world)["redis.restore_backup"], data, backups, supervisord, where)
    await platform.aclose()


async def test_nothing_to_restore_or_nowhere_to_is_refused(sick: Sick) -> None:
    """The plan fails without the inventory entry, the backup, a complete backup or the program."""
    for target, given, says in (
        (sick.where(disk=None), {}, "in the inventory; add it"),
        (sick.where(backups=None), {}, "in the inventory; add it"),
        (sick.where(), {"backup": "other.rdb"}, "has no complete backup 'other.rdb'"),
        (sick.where(program="postgres"), {}, "postgres"),
    ):
        with pytest.raises((TargetError, ClientError), match=says):
            await plan(sick.action, target, **given)
    (sick.backups / "good.rdb").write_bytes(b"REDIS0010 nonsense")
    with pytest.raises(TargetError, match="has no complete backup"):
        await plan(sick.action, sick.where())
    assert sick.untouched()


async def test_without_the_right_nothing_is_moved(sick: Sick) -> None:
    """The action is refused if supervisord requires a password, or if the folder is not writable."""
    with pytest.raises(Refused):
        await plan(sick.action, sick.where(f"http://127.0.0.1:{sick.supervisord.port}"))
    call = await plan(sick.action, sick.where())
    for folder in (sick.data, *sick.data.parents):
        if folder.stat().st_mode & 0o5 != 0o5:
            folder.chmod(folder.stat().st_mode | 0o5)
    sick.backups.chmod(0o755)
    Path(sick.supervisord.socket).chmod(0o777)
    with nobody(sick.data), pytest.raises(Refused, match="cannot write to"):
        await do(sick.action, sick.where(), call=call)
    assert sick.untouched()


async def test_a_platform_that_cannot_be_asked_stops_it(sick: Sick) -> None:
    """If supervisord is unreachable, silent or sends invalid data, the state of Redis is unknown, so its files are not
    touched."""

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100_000)
        await reader.read()

    call = await plan(sick.action, sick.where())
    with pytest.raises(Unreachable):
        await do(sick.action, sick.where("http://127.0.0.1:9"), call=call)
    async with listener(silent) as port:
        with pytest.raises((Unreachable, TimedOut, TimeoutError)):
            async with asyncio.timeout(1):  # the engine limits every call in the same way
                await do(sick.action, sick.where(f"http://127.0.0.1:{port}"), call=call)
    async with peer(reply(200, b"<html>welcome</html>")) as web:
        with pytest.raises(BadAnswer):
            await do(sick.action, sick.where(web.url), call=call)
    assert sick.untouched()


async def test_a_start_with_a_lost_answer_is_observed_and_not_repeated(sick: Sick) -> None:
    """The observation shows that Redis was started, and a repetition is refused."""
    call = await plan(sick.action, sick.where())
    since = datetime.now(UTC)
    async with deaf(sick.supervisord.url, lambda request: b"startProcess<" in request) as (url, withheld):
        with pytest.raises((TimedOut, TimeoutError)):
            async with asyncio.timeout(15):
                await do(sick.action, sick.where(url), call=call)
        assert len(withheld) == 1
    until(lambda: bool(sick.supervisord.children()), "it was started all the same")
    while (seen := await observe(sick.action, sick.where(), call, since=since)).happened is not EffectStatus.YES:
        assert seen.happened is EffectStatus.UNKNOWN, seen
        await asyncio.sleep(0.1)
    with pytest.raises(TargetError, match=r"was started after planning|already exists"):
        await do(sick.action, sick.where(), call=call)


async def test_a_replaced_backup_is_refused(sick: Sick) -> None:
    """A backup that was replaced or removed after planning is refused, and the files of Redis stay in place."""
    call = await plan(sick.action, sick.where())
    other = sick.backups / "other"
    shutil.copy(sick.backups / "good.rdb", other)
    other.replace(sick.backups / "good.rdb")
    with pytest.raises(TargetError, match=r"after planning|any more"):
        await do(sick.action, sick.where(), call=call)
    (sick.backups / "good.rdb").unlink()
    with pytest.raises(TargetError, match=r"after planning|any more"):
        await do(sick.action, sick.where(), call=call)
    assert sick.untouched()


async def test_a_full_disk_during_the_restore_keeps_the_files_of_redis(sick: Sick) -> None:
    """If the copy fails on a full disk, the files of Redis are moved back, and a second attempt succeeds."""
    call = await plan(sick.action, sick.where())
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40, hard))
    try:
        with pytest.raises(Refused, match="the Redis files were moved back"):
            await do(sick.action, sick.where(), call=call)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert sick.untouched()
    assert (await observe(sick.action, sick.where(), call)).happened is EffectStatus.NO
    await do(sick.action, sick.where(), call=call)
