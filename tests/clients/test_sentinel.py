"""The client of Sentinel, against real Sentinels."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from remediator.clients.endpoints import SentinelAddress, SentinelEndpoint
from remediator.clients.redis.client import Redis
from remediator.clients.redis.connection import RedisBadAnswer, RedisEndpoint, RedisRefused, RedisState
from remediator.clients.redis.sentinel import Master, Sentinel
from remediator.errors import TargetError, Unreachable
from tests.support.servers import until
from tests.support.servers.redis import MakeRedis
from tests.support.servers.redis import Redis as Server
from tests.support.servers.redis import Sentinel as SentinelServer


@pytest.fixture
def master(make_redis: MakeRedis) -> Server:
    return make_redis()


@pytest.fixture
def sentinels(make_redis: MakeRedis, master: Server) -> list[Server]:
    return [make_redis(kind=SentinelServer, master=master) for _ in range(3)]


def client_of(servers: list[Server], master: str = "main") -> Sentinel:
    """Return a client of these Sentinels."""
    addresses = tuple(SentinelAddress(host="127.0.0.1", port=each.port) for each in servers)
    return Sentinel(SentinelEndpoint.model_validate({"sentinels": addresses, "master": master, "timeout": "300ms"}))


async def test_a_majority_names_the_master(sentinels: list[Server], master: Server) -> None:
    """Three Sentinels agree, or two if one is down. A single Sentinel is not sufficient."""
    client = client_of(sentinels)
    assert await client.master() == Master("127.0.0.1", master.port, 3, 3)
    sentinels[0].kill()
    assert await client.master() == Master("127.0.0.1", master.port, 2, 3)
    sentinels[1].pause()
    with pytest.raises(Unreachable, match="1 of 3"):
        await client.master()


async def test_two_masters_are_not_a_majority(make_redis: MakeRedis, sentinels: list[Server]) -> None:
    """Two Sentinels with two masters are not a majority."""
    other = make_redis()
    stray = make_redis(kind=SentinelServer, master=other)
    with pytest.raises(RedisBadAnswer, match="do not agree"):
        await client_of([sentinels[0], stray]).master()


async def test_a_master_that_they_do_not_watch_is_refused(sentinels: list[Server]) -> None:
    """A wrong master name in the settings is refused and does not look like a failover."""
    with pytest.raises(RedisRefused, match="does not monitor 'other'"):
        await client_of(sentinels, "other").master()


async def test_a_sentinel_is_not_a_redis(sentinels: list[Server]) -> None:
    """If the settings name a Sentinel as a Redis, the error names the right setting."""
    health = await Redis(RedisEndpoint(port=sentinels[0].port)).health()
    assert health.state is RedisState.SENTINEL and "under 'sentinel'" in health.detail


def wait_for(sentinel: Server, question: str, redis: Server) -> None:
    """Wait until the answer of a Sentinel names that Redis."""
    until(lambda: str(redis.port) in sentinel.ask(*question.split()), question)


@pytest.mark.long
async def test_after_a_failover_the_new_master_is_named(
    make_redis: MakeRedis, master: Server, sentinels: list[Server]
) -> None:
    """After kill -9 of the master, the client names the replica as soon as the Sentinels agree."""
    replica = make_redis(f"replicaof 127.0.0.1 {master.port}")
    until(lambda: "master_link_status:up" in replica.ask("INFO", "replication"), "replica in sync")
    for each in sentinels:
        wait_for(each, "SENTINEL REPLICAS main", replica)
    master.kill()
    for each in sentinels[:2]:
        wait_for(each, "SENTINEL GET-MASTER-ADDR-BY-NAME main", replica)
    assert (await client_of(sentinels).master()).port == replica.port
    assert (await Redis(RedisEndpoint(port=replica.port)).role()).name == "master"


def behind(servers: list[Server], master: str = "main", **more: object) -> RedisEndpoint:
    """Return the endpoint of a Redis that the inventory names by its Sentinels."""
    addresses = [{"host": "127.0.0.1", "port": each.port} for each in servers]
    sentinel = {"sentinels": addresses, "master": master, "timeout": "300ms"}
    return RedisEndpoint.model_validate({"sentinel": sentinel, **more})


async def test_the_master_named_by_the_sentinels_is_asked(sentinels: list[Server], master: Server) -> None:
    """Health, figures and parameters come from the master that the Sentinels name."""
    redis = Redis(behind(sentinels))
    health = await redis.health()
    assert (health.state, health.role) == (RedisState.SERVING, "master")
    change = await redis.config_set("maxmemory", "100mb", expected=await redis.run_id())
    assert (change.old, change.new) == ("0", "104857600")
    assert master.ask("CONFIG", "GET", "maxmemory").endswith("104857600")


async def test_without_a_majority_of_the_sentinels_no_server_is_asked(sentinels: list[Server]) -> None:
    """Without a majority or with an unknown master, the state names the problem, and no address is guessed."""
    other = await Redis(behind(sentinels, "other")).health()
    assert other.state is RedisState.REFUSING and "does not monitor 'other'" in other.detail
    for each in sentinels[:2]:
        each.kill()
    health = await Redis(behind(sentinels)).health()
    assert health.state is RedisState.UNREACHABLE and "1 of 3" in health.detail and "master main" in health.detail


def test_an_address_beside_the_sentinels_is_a_mistake() -> None:
    """An address beside Sentinels is an error, because the two would disagree after a failover."""
    with pytest.raises(ValidationError, match="remove host, port and socket"):
        RedisEndpoint.model_validate({"host": "redis", "sentinel": {"sentinels": [{"host": "a"}], "master": "m"}})


@pytest.mark.long
@pytest.mark.promise(3)
async def test_a_failover_between_plan_and_act_is_noticed(
    make_redis: MakeRedis, master: Server, sentinels: list[Server]
) -> None:
    """The new master gets no action that was planned for the old master."""
    replica = make_redis(f"replicaof 127.0.0.1 {master.port}")
    until(lambda: "master_link_status:up" in replica.ask("INFO", "replication"), "replica in sync")
    for each in sentinels:
        wait_for(each, "SENTINEL REPLICAS main", replica)
    redis = Redis(behind(sentinels))
    planned = await redis.run_id()
    master.kill()
    for each in sentinels:
        wait_for(each, "SENTINEL GET-MASTER-ADDR-BY-NAME main", replica)
    until(lambda: "role:master" in replica.ask("INFO", "replication"), "it is the master")

    with pytest.raises(TargetError, match="another server is the master now"):
        await redis.config_set("maxmemory", "100mb", expected=planned)
    assert replica.ask("CONFIG", "GET", "maxmemory").endswith("0")
    assert (await redis.health()).role == "master"
