"""The ``redis.*`` actions on a real Redis, with their effects seen in Redis and their refusals."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from remediator.core.outcome import Outcome
from remediator.errors import Refused, TargetError, Unreachable
from remediator.extensions.actions.base import Action, EffectStatus
from remediator.extensions.clientset import ClientSet
from remediator.extensions.platforms.supervisor import SupervisorPlatform
from remediator.extensions.registry import Registry
from remediator.playbooks.inventory import Service
from tests.support.action_runner import do, observe, plan, service, undo
from tests.support.servers import until
from tests.support.servers.redis import MakeRedis, Redis
from tests.support.servers.supervisord import Supervisord

ACTIONS: dict[str, Action] = Registry().make_actions(ClientSet())


def target(server: Redis, **more: Any) -> Service:
    where: dict[str, Any] = {"host": "127.0.0.1", "port": server.port}
    if server.password is not None:
        (server.folder / "password").write_text(server.password)
        where["password_file"] = str(server.folder / "password")
    return service("redis", redis=where, disk={"path": str(server.folder)}, **more)


async def test_a_parameter_is_set_and_set_back(redis_server: Redis) -> None:
    """The result contains the old value, and the undo restores it."""
    action, redis = ACTIONS["redis.config_set"], target(redis_server)
    given = {"name": "maxmemory", "value": "100mb"}
    call = await plan(action, redis, **given)
    result = await do(action, redis, call=call, **given)

    assert (result.outcome, result.output["old"]) == (Outcome.OK, "0")
    assert redis_server.ask("CONFIG", "GET", "maxmemory").endswith("104857600")
    assert (await observe(action, redis, call, **given)).happened is EffectStatus.YES
    await undo(action, ACTIONS, redis, call, result)
    assert (await observe(action, redis, call, **given)).happened is EffectStatus.NO


@pytest.mark.parametrize("name", ["dir", "dbfilename", "requirepass", "replicaof", "appendonly", "save", "logfile"])
def test_no_other_parameter_can_be_named(name: str) -> None:
    """The code has a fixed list of parameters, which no playbook can extend."""
    with pytest.raises(ValidationError):
        ACTIONS["redis.config_set"].Parameters.model_validate({"name": name, "value": "x"})


@pytest.mark.parametrize("value", ["", "-10", "--x", "a\nb", 'x"', "$(id)"])
def test_no_value_can_be_anything_else(value: str) -> None:
    """A value must have the syntax of a value in redis.conf."""
    with pytest.raises(ValidationError):
        ACTIONS["redis.config_set"].Parameters.model_validate({"name": "maxmemory", "value": value})


async def test_the_undo_can_disable_the_slow_log(redis_server: Redis) -> None:
    """In Redis, -1 switches the slow log off: the undo must be able to set this value."""
    redis_server.ask("CONFIG", "SET", "slowlog-log-slower-than", "-1")
    given = {"name": "slowlog-log-slower-than", "value": "10000"}
    action, redis = ACTIONS["redis.config_set"], target(redis_server)
    call = await plan(action, redis, **given)
    result = await do(action, redis, call=call, **given)
    await undo(action, ACTIONS, redis, call, result)
    assert redis_server.ask("CONFIG", "GET", "slowlog-log-slower-than").endswith("-1")


async def test_a_redis_that_was_restarted_since_is_refused(redis_server: Redis) -> None:
    """If Redis was restarted after planning, the action is refused."""
    action, redis = ACTIONS["redis.config_set"], target(redis_server)
    given = {"name": "maxclients", "value": "500"}
    call = await plan(action, redis, **given)
    redis_server.kill()
    redis_server.start()

    with pytest.raises(TargetError, match="was restarted after planning"):
        await do(action, redis, call=call, **given)


async def test_a_value_that_redis_rejects_is_refused(redis_server: Redis) -> None:
    """The error contains the message of Redis."""
    with pytest.raises(Refused):
        await do(ACTIONS["redis.config_set"], target(redis_server), name="maxmemory-policy", value="whatever")


@pytest.mark.parametrize(
    "name",
    [
        "redis.config_set",
        "redis.bgrewriteaof",
        "redis.bgsave",
        "redis.memory_purge",
        "redis.client_kill",
        "redis.diagnose",
        "redis.disable_persistence",
        "redis.restore_persistence",
    ],
)
async def test_without_an_address_or_an_answer_nothing_is_planned(name: str, make_redis: MakeRedis) -> None:
    """Without an endpoint in the inventory, the error names the missing entry. Without a server, the error is
    Unreachable."""
    given: dict[str, Any] = {
        "redis.config_set": {"name": "maxmemory", "value": "1gb"},
        "redis.client_kill": {"idle_over": "1h"},
        "redis.restore_persistence": {"appendonly": "yes"},
    }.get(name, {})
    action, away = ACTIONS[name], make_redis()
    away.kill()

    with pytest.raises(TargetError, match="in the inventory; add it"):
        await do(action, service("redis"), **given)
    with pytest.raises(Unreachable):
        await do(action, target(away), **given)


async def test_a_rewrite_shortens_the_append_only_file(make_redis: MakeRedis) -> None:
    """The result has the size that Redis reports, not the reply to the command."""
    server = make_redis("appendonly yes")
    for _ in range(20):
        server.ask("SET", "key", "x" * 100_000)
    action, redis = ACTIONS["redis.bgrewriteaof"], target(server)
    call = await plan(action, redis)
    assert (await observe(action, redis, call)).happened is EffectStatus.NO

    result = await do(action, redis, call=call)

    assert result.outcome is Outcome.OK, result.summary
    assert result.output["size"] < 200_000 < 2_000_000 < result.output["before"]
    assert (await observe(action, redis, call)).happened is EffectStatus.YES


async def test_no_rewrite_without_a_file(redis_server: Redis) -> None:
    """Without an append-only file, the rewrite is refused."""
    with pytest.raises(Refused, match="has no append-only file"):
        await plan(ACTIONS["redis.bgrewriteaof"], target(redis_server))


@pytest.mark.parametrize("name", ["redis.bgsave", "redis.bgrewriteaof"])
async def test_a_fork_in_progress_refuses_the_action(make_redis: MakeRedis, name: str) -> None:
    """The action is refused while Redis runs another fork."""
    server = make_redis("appendonly yes", "rdb-key-save-delay 1000000", "enable-debug-command yes")
    server.ask("SET", "key", "value")
    server.ask("BGSAVE")

    with pytest.raises(Refused, match="try again later"):
        await plan(ACTIONS[name], target(server))


async def test_a_snapshot_is_written_and_counted(redis_server: Redis) -> None:
    """The snapshot file exists, and Redis reports success."""
    redis_server.ask("SET", "key", "value")
    action, redis = ACTIONS["redis.bgsave"], target(redis_server)
    call = await plan(action, redis)
    assert (await observe(action, redis, call)).happened is EffectStatus.NO

    assert (await do(action, redis, call=call)).outcome is Outcome.OK
    assert (redis_server.folder / "dump.rdb").exists()
    assert (await observe(action, redis, call)).happened is EffectStatus.YES


async def test_memory_is_purged(redis_server: Redis) -> None:
    """The memory of deleted keys is released, and no key is lost. If nothing is released, the action fails."""
    redis_server.ask("SET", "key", "value")
    for number in range(20):
        redis_server.ask("SETRANGE", f"big{number}", "2000000", "x")
    redis_server.ask("DEL", *(f"big{number}" for number in range(20)))

    purged = await do(ACTIONS["redis.memory_purge"], target(redis_server))
    assert purged.outcome is Outcome.OK and purged.output["resident"] < purged.output["before"]
    assert redis_server.ask("GET", "key") == "value"

    results = [await do(ACTIONS["redis.memory_purge"], target(redis_server)) for _ in range(3)]
    nothing = [result for result in results if result.output["resident"] >= result.output["before"]]
    assert all(result.outcome is Outcome.FAILED and "nothing was freed" in result.summary for result in nothing)


async def test_only_matching_clients_are_closed(redis_server: Redis) -> None:
    """Clients are chosen by their memory; the connection of the action and other clients stay."""
    import redis.asyncio as client  # noqa: PLC0415

    async def connect(name: str) -> Any:
        made = client.Redis(port=redis_server.port, password=redis_server.password, client_name=name)
        await made.ping()
        return made

    heavy, light = await connect("heavy"), await connect("light")
    raw = await heavy.connection_pool.get_connection()
    await raw.send_packed_command([b"*2\r\n$3\r\nGET\r\n$3000000\r\n" + b"x" * 1_000_000])  # incomplete
    given = {"memory_over": 500_000}
    until(lambda: "heavy" in redis_server.ask("CLIENT", "LIST"), "it is connected")
    action, target_ = ACTIONS["redis.client_kill"], target(redis_server)
    call = await plan(action, target_, **given)
    result = await do(action, target_, call=call, **given)

    left = redis_server.ask("CLIENT", "LIST")
    assert result.output == {"killed": 1}
    assert "name=heavy" not in left and "name=light" in left
    assert (await observe(action, target_, call, **given)).happened is EffectStatus.YES
    with pytest.raises(TargetError, match="meets the conditions"):
        await plan(action, target_, **given)
    for each in (heavy, light):
        with suppress(OSError, client.ConnectionError):
            await each.aclose()


def test_without_a_condition_no_client_matches() -> None:
    """A call without a condition closes no client."""
    with pytest.raises(ValidationError, match="every client"):
        ACTIONS["redis.client_kill"].Parameters.model_validate({})


async def test_redis_is_diagnosed(redis_server: Redis) -> None:
    """The diagnosis has all its parts, each within its limit."""
    for number in range(50):
        redis_server.ask("SET", f"key:{number}", "x" * number * 100)
    parts = ["memory", "persistence", "role", "clients", "slowlog", "latency", "big_keys"]
    result = await do(ACTIONS["redis.diagnose"], target(redis_server), parts=parts, top=3)

    assert set(result.output) == {*parts, "problems"}
    assert [each["key"] for each in result.output["big_keys"]["keys"]] == ["key:49", "key:48", "key:47"]
    assert result.output["role"]["role"] == "master"


async def test_persistence_is_switched_off_and_on_again(make_redis: MakeRedis) -> None:
    """Persistence is disabled, and the undo restores any earlier value."""
    server = make_redis("appendonly yes", "save 100 7")
    action, redis = ACTIONS["redis.disable_persistence"], target(server)
    call = await plan(action, redis)
    result = await do(action, redis, call=call)

    assert action.destructive
    assert server.ask("CONFIG", "GET", "appendonly").endswith("no")
    assert server.ask("CONFIG", "GET", "save") == "save"
    assert (await observe(action, redis, call)).happened is EffectStatus.YES
    with pytest.raises(TargetError, match="already"):
        await plan(action, redis)

    await undo(action, ACTIONS, redis, call, result)
    assert server.ask("CONFIG", "GET", "appendonly").endswith("yes")
    assert server.ask("CONFIG", "GET", "save").endswith("100 7")


@pytest.fixture
async def world() -> AsyncIterator[ClientSet]:
    """Return clients with supervisord as the only platform."""
    platform = SupervisorPlatform()
    yield ClientSet(platforms={"supervisor": platform})
    await platform.aclose()


async def test_a_backup_is_restored_only_into_a_redis_that_does_not_run(
    make_redis: MakeRedis, supervisord: Supervisord, world: ClientSet, tmp_path: Path
) -> None:
    """The restored Redis has the data of the backup; its own files are kept beside it, and an incomplete backup is
    refused."""
    donor = make_redis()
    donor.ask("SET", "from", "backup")
    donor.ask("SAVE")
    data, backups = tmp_path / "data", tmp_path / "backups"
    (data / "appendonlydir").mkdir(parents=True)
    (data / "appendonlydir" / "appendonly.aof.manifest").write_text("nonsense\n")
    backups.mkdir()
    shutil.copy(donor.folder / "dump.rdb", backups / "good.rdb")
    (backups / "newer.rdb").write_bytes(b"REDIS0010 nonsense")
    os.utime(backups / "good.rdb", (1, 1))
    port = donor.port
    donor.kill()
    supervisord.program("redis", f"redis-server --port {port} --dir {data} --appendonly yes", "startsecs=1")
    supervisord.start()
    redis = service(
        "redis",
        platform={"kind": "supervisor", "url": supervisord.url, "program": "redis"},
        redis={"host": "127.0.0.1", "port": port},
        disk={"path": str(data)},
        backups={"path": str(backups)},
    )
    action = Registry().make_actions(world)["redis.restore_backup"]

    call = await plan(action, redis)
    since = datetime.now(UTC)
    assert call.arguments["backup"] == "good.rdb" and "is lost" in str(call.risk)
    assert (await observe(action, redis, call, since=since)).happened is EffectStatus.NO
    result = await do(action, redis, call=call)

    assert result.outcome is Outcome.OK, result.summary
    assert (await observe(action, redis, call, since=since)).happened is EffectStatus.YES
    until(lambda: donor._cli("GET", "from").stdout.strip() == "backup", "the backup's data are served")
    assert (data / call.arguments["aside"] / "appendonlydir" / "appendonly.aof.manifest").read_text() == "nonsense\n"
    with pytest.raises(TargetError, match="a backup is restored only while Redis is stopped"):
        await plan(action, redis)
