"""An action that changed nothing does not succeed, whatever the platform or the server answers."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from remediator.core.outcome import Outcome
from remediator.errors import TargetError
from remediator.extensions.actions.base import Action
from remediator.extensions.clientset import ClientSet
from remediator.extensions.platforms.base import Platform, Release, ServiceStatus, State
from remediator.extensions.registry import Registry
from remediator.playbooks.inventory import Service
from tests.support.action_runner import do, plan, service
from tests.support.servers.redis import MakeRedis, Redis

ACTIONS: dict[str, Action] = Registry().make_actions(ClientSet())


class Idle(Platform):
    """A platform that accepts every call and changes nothing."""

    kind = "supervisor"

    async def status(self, service: Service) -> ServiceStatus:
        return ServiceStatus(State.RUNNING, "app is RUNNING (pid 7)", 2, 2, {"pid": 7})

    async def logs(self, service: Service, lines: int, *, previous: bool = False) -> str:
        return ""

    def describe_restart(self, service: Service, stop_timeout: float) -> str:
        return "restart"

    async def restart(self, service: Service, pin: Mapping[str, Any], stop_timeout: float) -> None:
        return None

    def describe_scale(self, service: Service, replicas: int) -> str:
        return "scale"

    async def scale(self, service: Service, pin: Mapping[str, Any], replicas: int) -> None:
        return None

    async def releases(self, service: Service) -> tuple[Release, ...]:
        return (Release("2", datetime.now(UTC), True), Release("1", datetime.now(UTC), False))

    def describe_rollback(self, service: Service, to: str) -> str:
        return "roll back"

    async def rollback(self, service: Service, pin: Mapping[str, Any], to: str) -> None:
        return None


@pytest.mark.parametrize(
    ("name", "given", "said"),
    [
        ("service.restart", {}, "the instance is the same"),
        ("service.scale", {"by": 1}, "still has 2 instances"),
        ("service.rollback", {}, "still runs 2"),
    ],
)
async def test_a_platform_without_an_effect_fails_the_action(name: str, given: dict[str, Any], said: str) -> None:
    """The platform accepts the call and the target does not change: the action fails."""
    action = Registry().make_actions(ClientSet(platforms={"supervisor": Idle()}))[name]
    result = await do(action, service("app"), **given)
    assert result.outcome is Outcome.FAILED
    assert said in result.summary


def target(server: Redis) -> Service:
    """Return the service of a Redis."""
    where = {"host": "127.0.0.1", "port": server.port}
    return service("redis", redis=where, disk={"path": str(server.folder)})


async def test_a_parameter_that_another_client_has_set(make_redis: MakeRedis) -> None:
    """If another client has set the same value before the call, the action reports that it changed nothing."""
    redis = make_redis()
    given = {"name": "maxclients", "value": "500"}
    call = await plan(ACTIONS["redis.config_set"], target(redis), **given)
    redis.ask("CONFIG", "SET", "maxclients", "500")
    assert (await do(ACTIONS["redis.config_set"], target(redis), call=call, **given)).outcome is Outcome.FAILED


async def test_persistence_that_another_client_has_disabled(make_redis: MakeRedis) -> None:
    """If another client has disabled persistence before the call, the action reports that it changed nothing."""
    redis = make_redis("appendonly yes")
    action = ACTIONS["redis.disable_persistence"]
    call = await plan(action, target(redis))
    redis.ask("CONFIG", "SET", "appendonly", "no")
    result = await do(action, target(redis), call=call)
    assert (result.outcome, "nothing was changed" in result.summary) == (Outcome.FAILED, True)


async def test_a_rewrite_that_frees_nothing(make_redis: MakeRedis) -> None:
    """If the append-only file cannot become smaller, the rewrite frees nothing, so the action fails."""
    redis = make_redis("appendonly yes")
    redis.ask("SET", "a", "x" * 1000)
    first = await do(ACTIONS["redis.bgrewriteaof"], target(redis), memory_percent=0)
    again = await do(ACTIONS["redis.bgrewriteaof"], target(redis), memory_percent=0)
    assert again.outcome is Outcome.FAILED, (first, again)
    assert "the rewrite freed nothing" in again.summary


async def test_restoring_persistence_cannot_disable_it(make_redis: MakeRedis) -> None:
    """Disabling persistence by a restore would be destructive without an approval; restoring disabled persistence stays
    possible."""
    redis = make_redis("appendonly yes", "save 300 10")
    action = ACTIONS["redis.restore_persistence"]
    for given in ({"appendonly": "no"}, {"save": ""}):
        with pytest.raises(TargetError, match=r"use redis\.disable_persistence"):
            await do(action, target(redis), **given)
    redis.ask("CONFIG", "SET", "save", "")
    assert (await do(action, target(redis), save="", appendonly="yes")).outcome is Outcome.OK


async def test_a_memory_limit_that_evicts_keys_has_a_cost(make_redis: MakeRedis) -> None:
    """With a policy that evicts and a limit below the used memory, the cost is the number of bytes to evict; otherwise
    it is 0."""
    redis = make_redis("maxmemory-policy allkeys-lru")
    action = ACTIONS["redis.config_set"]

    async def evicted(name: str, value: str) -> int | None:
        given = action.Parameters.model_validate({"name": name, "value": value})
        call = await action.plan(target(redis), given)
        return (await action.cost(target(redis), given, call)).evicted_bytes

    assert (await evicted("maxmemory", "100kb") or 0) > 100_000
    assert await evicted("maxmemory", "1gb") == 0
    assert await evicted("maxclients", "500") is None
    redis.ask("CONFIG", "SET", "maxmemory-policy", "noeviction")
    assert await evicted("maxmemory", "100kb") == 0
