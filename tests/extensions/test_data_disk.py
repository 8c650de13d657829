"""The data disk as a volume of a Kubernetes cluster, with its usage from the kubelet metrics in a real Prometheus."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest

from remediator.clients.endpoints import Endpoint
from remediator.clients.prometheus.client import Prometheus as Client
from remediator.core.outcome import Outcome
from remediator.core.sizes import MEBIBYTE
from remediator.errors import Refused, TargetError
from remediator.extensions import data_disk
from remediator.extensions.actions.files_disk_use import DiskUseParameters, FilesDiskUse
from remediator.extensions.actions.redis_bgrewriteaof import RedisBgrewriteaof, RewriteParameters
from remediator.extensions.checks.base import CheckAnswer
from remediator.extensions.checks.disk_usage import DiskUsage, DiskUsageParameters
from remediator.extensions.clientset import ClientSet
from remediator.playbooks.inventory import Service
from remediator.playbooks.service_parts import Disk
from remediator.playbooks.target_identity import Relation, compare
from tests.support.servers import DEADLINE
from tests.support.servers.prometheus import Prometheus
from tests.support.servers.redis import MakeRedis, Redis

CLAIM = {"claim": "redis", "full_percent": 85}


def rules(used: int, size: int = 100 * MEBIBYTE) -> str:
    """Write the series of the kubelet for two claims as recording rules."""
    figures = {"capacity": size, "used": used, "available": size - used}
    lines = [
        f"{{record: kubelet_volume_stats_{name}_bytes, expr: vector({value}), "
        f"labels: {{namespace: shop, persistentvolumeclaim: {claim}}}}}"
        for name, value in figures.items()
        for claim in ("redis", "other")
    ]
    return f"groups: [{{name: kubelet, interval: 1s, rules: [{', '.join(lines)}]}}]\n"


def service(redis: Redis | None = None, **disk: object) -> Service:
    """Return a Redis on a cluster with its volume."""
    where = {"kind": "kubernetes", "namespace": "shop", "deployment": "redis"}
    body = {"name": "redis", "platform": where, "disk": disk or CLAIM}
    if redis is not None:
        body["redis"] = {"host": "127.0.0.1", "port": redis.port}
    return Service.model_validate(body)


MakeClients = Callable[[str], Awaitable[ClientSet]]


@pytest.fixture
async def make_clients(make_prometheus: Callable[..., Prometheus]) -> AsyncIterator[MakeClients]:
    """Return a function that returns clients with a Prometheus that has evaluated these rules."""
    async with AsyncExitStack() as stack:

        async def make(text: str) -> ClientSet:
            client = Client(Endpoint(url=make_prometheus(rules=text).url))
            stack.push_async_callback(client.aclose)
            async with asyncio.timeout(DEADLINE):
                while len((await client.query('{__name__=~"kubelet_.*"}')).samples) < 6:
                    await asyncio.sleep(0.1)
            return ClientSet(prometheus=client)

        yield make


async def test_a_full_volume_fails_the_check(make_clients: MakeClients) -> None:
    """Only the claim of the inventory counts, not another claim of the namespace; the facts are bytes."""
    found = await make_clients(rules(90 * MEBIBYTE))
    evidence = await DiskUsage(found).ask(service(), DiskUsageParameters())
    assert evidence.answer is CheckAnswer.FAIL and "90 % full (limit: 85 %)" in evidence.summary
    assert evidence.facts["free"] == 10 * MEBIBYTE
    assert data_disk.where(service()) == "the volume of claim redis"


async def test_an_unknown_volume_is_unknown(make_clients: MakeClients) -> None:
    """The answer is unknown without the claim in the metrics, without Prometheus, or for a service outside of a
    cluster."""
    found = await make_clients(rules(1))
    missing = await DiskUsage(found).ask(service(claim="none"), DiskUsageParameters())
    assert missing.answer is CheckAnswer.UNKNOWN and "does Prometheus scrape the kubelet?" in missing.summary
    without = await DiskUsage(ClientSet()).ask(service(), DiskUsageParameters())
    assert without.answer is CheckAnswer.UNKNOWN and "name no Prometheus" in without.summary
    elsewhere = Service.model_validate(
        {"name": "redis", "platform": {"kind": "systemd", "unit": "redis.service"}, "disk": CLAIM}
    )
    with pytest.raises(TargetError, match="the service does not run there"):
        await data_disk.usage(elsewhere, found.prometheus)


async def test_its_files_cannot_be_read_here() -> None:
    """The error has the reason, so a playbook knows that the files are unknown."""
    with pytest.raises(TargetError, match="a volume of the cluster, whose files cannot be read"):
        await FilesDiskUse(ClientSet()).plan(service(), DiskUseParameters())


async def test_an_append_only_file_is_rewritten_on_a_volume(make_clients: MakeClients, make_redis: MakeRedis) -> None:
    """The action rewrites an append-only file that grew by overwrites, if the volume has space for the new file."""
    redis = make_redis("appendonly yes", "auto-aof-rewrite-percentage 0")
    for _ in range(20):
        redis.ask("SET", "key", "x" * 100_000)
    found = await make_clients(rules(90 * MEBIBYTE))
    action, target, parameters = RedisBgrewriteaof(found), service(redis), RewriteParameters()
    result = await action.execute(target, parameters, await action.plan(target, parameters))
    assert result.outcome is Outcome.OK and result.output["size"] < result.output["before"]


async def test_a_rewrite_without_space_on_the_volume_is_refused(
    make_clients: MakeClients, make_redis: MakeRedis
) -> None:
    """With one free byte on the volume, the rewrite is refused."""
    redis = make_redis("appendonly yes")
    redis.ask("SET", "key", "x" * 1000)
    found = await make_clients(rules(100 * MEBIBYTE - 1))
    with pytest.raises(Refused, match=r"the volume of claim redis has only 1 B free"):
        await RedisBgrewriteaof(found).plan(service(redis), RewriteParameters())


def test_an_alert_names_the_claim() -> None:
    """An alert about another claim in the same namespace is not about this service."""
    labels = {"namespace": "shop", "persistentvolumeclaim": "redis"}
    assert compare(labels, service()).relation is Relation.ABOUT
    assert compare(labels | {"persistentvolumeclaim": "other"}, service()).relation is Relation.OTHER


@pytest.mark.parametrize("given", [{}, {"path": "/data", "claim": "redis"}])
def test_a_disk_is_a_folder_or_a_claim(given: dict[str, str]) -> None:
    """A disk with both a folder and a claim, or with neither, is refused."""
    with pytest.raises(ValueError, match=r"path nor claim|path and claim"):
        Disk.model_validate(given)
