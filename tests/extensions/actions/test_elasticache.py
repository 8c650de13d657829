"""ElastiCache on moto's HTTP server.

A test server with the query protocol of AWS adds TestFailover, events and failures, which moto does not have.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import warnings
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import boto3
import pytest

from remediator.authoring.testing.runner import run
from remediator.clients.aws import elasticache
from remediator.core.outcome import Outcome
from remediator.errors import BadAnswer, Refused, TargetError, TimedOut, Unreachable
from remediator.extensions.actions.base import Action, EffectStatus
from remediator.extensions.actions.elasticache_describe import ElasticacheDescribe
from remediator.extensions.actions.elasticache_modify_node_type import ElasticacheModifyNodeType
from remediator.extensions.actions.elasticache_test_failover import ElasticacheTestFailover
from remediator.extensions.clientset import ClientSet
from remediator.extensions.registry import Registry
from remediator.playbooks.inventory import Service
from tests.support.action_runner import do, observe, plan, service, undo
from tests.support.fake_servers import Peer, Script, hang_up, peer, reply, silence

with warnings.catch_warnings():
    # moto warns about a missing extra that ElastiCache does not need
    warnings.simplefilter("ignore")
    from moto.server import ThreadedMotoServer

pytestmark = [
    pytest.mark.long,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

OLD, NEW = "cache.m5.large", "cache.m5.xlarge"
DESCRIBE, MODIFY = ElasticacheDescribe(ClientSet()), ElasticacheModifyNodeType(ClientSet())
FAILOVER = ElasticacheTestFailover(ClientSet())
CHANGES: list[tuple[Action, dict[str, Any]]] = [(MODIFY, {"node_type": NEW}), (FAILOVER, {})]
EACH = pytest.mark.parametrize(("action", "given"), CHANGES, ids=lambda value: getattr(value, "name", ""))


@pytest.fixture(autouse=True)
def somebody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set credentials where the default chain of boto3 finds them."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """Start moto's server in this process, and return its URL."""
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def group(endpoint: str, request: pytest.FixtureRequest) -> Service:
    """Return a service with a new replication group of two nodes."""
    name = f"group-{abs(hash(request.node.nodeid)) % 10**8}"
    client = boto3.session.Session().client("elasticache", endpoint_url=endpoint, region_name="eu-central-1")
    client.create_replication_group(
        ReplicationGroupId=name,
        ReplicationGroupDescription="of a test",
        Engine="redis",
        CacheNodeType=OLD,
        NumCacheClusters=2,
        AutomaticFailoverEnabled=True,
    )
    client.close()
    return at(endpoint, name)


def at(url: str, name: str = "sessions", **more: Any) -> Service:
    """Return a service whose inventory entry is this replication group."""
    given = {"replication_group": name, "region": "eu-central-1", "endpoint_url": url, **more}
    return service("redis", elasticache=given)


class Cloud:
    """A replication group that fails over and can be modified, with answers in XML.

    ``loses`` names a call that takes effect but gets no answer; ``denies`` names a call that is refused.
    """

    def __init__(self, *, shards: int = 1, loses: str = "", denies: str = "") -> None:
        self.primary, self.node_type, self.status = 1, OLD, "available"
        self.noted = ""
        self.called: list[str] = []
        self._shards, self._loses, self._denies = shards, loses, denies

    async def script(self, request: bytes, writer: asyncio.StreamWriter) -> None:
        given = {name: values[0] for name, values in parse_qs(request.partition(b"\r\n\r\n")[2].decode()).items()}
        action = given["Action"]
        self.called.append(action)
        if action == self._denies:
            error = "<Error><Code>AccessDenied</Code><Message>not you</Message></Error>"
            await reply(403, f"<ErrorResponse>{error}</ErrorResponse>".encode())(request, writer)
            return
        if action == "TestFailover":
            self.primary, self.noted = 2, f"Test Failover API called for node group {given['NodeGroupId']}"
        elif action == "ModifyReplicationGroup":
            self.node_type = given["CacheNodeType"]
        if action == self._loses:
            await hang_up(request, writer)
            return
        told = self._events() if action == "DescribeEvents" else self._group()
        body = f"<{action}Response><{action}Result>{told}</{action}Result></{action}Response>"
        await reply(200, body.encode(), "content-type: text/xml")(request, writer)

    def _events(self) -> str:
        event = f"<Event><Message>{self.noted}</Message><Date>2026-01-05T10:00:00Z</Date></Event>"
        return f"<Events>{event if self.noted else ''}</Events>"

    def _group(self) -> str:
        groups = "".join(self._shard(number) for number in range(1, self._shards + 1))
        told = f"<ReplicationGroupId>sessions</ReplicationGroupId><Status>{self.status}</Status>"
        told += f"<CacheNodeType>{self.node_type}</CacheNodeType><AutomaticFailover>enabled</AutomaticFailover>"
        told += f"<NodeGroups>{groups}</NodeGroups>"
        return f"<ReplicationGroups><ReplicationGroup>{told}</ReplicationGroup></ReplicationGroups>"

    def _shard(self, number: int) -> str:
        nodes = ""
        for node in (1, 2):
            role = "primary" if node == self.primary else "replica"
            told = f"<CacheClusterId>sessions-00{node}</CacheClusterId><CurrentRole>{role}</CurrentRole>"
            nodes += f"<NodeGroupMember>{told}</NodeGroupMember>"
        id_ = f"<NodeGroupId>000{number}</NodeGroupId>"
        return f"<NodeGroup>{id_}<NodeGroupMembers>{nodes}</NodeGroupMembers></NodeGroup>"


@asynccontextmanager
async def served(cloud: Cloud) -> AsyncIterator[Service]:
    """Return the service of this replication group."""
    async with peer(cloud.script) as web:
        yield at(web.url)


async def test_it_is_described(group: Service) -> None:
    """The status and the node type are those that moto reports."""
    result = await do(DESCRIBE, group)

    assert result.outcome is Outcome.OK
    assert (result.output["status"], result.output["node_type"]) == ("available", OLD)
    assert "available, cache.m5.large" in result.summary


async def test_roles_are_reported() -> None:
    """The facts name the primary node of each shard."""
    async with served(Cloud()) as target:
        result = await do(DESCRIBE, target)

    assert "0001 sessions-001" in result.summary
    assert result.output["shards"][0]["NodeGroupMembers"][1]["CurrentRole"] == "replica"


async def test_the_node_type_is_changed_and_restored(group: Service) -> None:
    """An observation shows the new node type, and the record contains the old node type for the undo."""
    call = await plan(MODIFY, group, node_type=NEW)
    assert (await observe(MODIFY, group, call, node_type=NEW)).happened is EffectStatus.NO

    result = await do(MODIFY, group, call=call, node_type=NEW)
    assert (await do(DESCRIBE, group)).output["node_type"] == NEW
    assert (await observe(MODIFY, group, call, node_type=NEW)).happened is EffectStatus.YES

    await undo(MODIFY, {MODIFY.name: MODIFY}, group, call, result)
    assert (await do(DESCRIBE, group)).output["node_type"] == OLD


def test_an_approval_is_always_required() -> None:
    """An action that costs money declares this; of the ElastiCache actions, only the change of the node type does."""
    asking = [action.name for action in Registry().actions if action.requires_approval]

    assert asking == ["elasticache.modify_node_type"]


PLAYBOOK = """\
apiVersion: remediator/v1
kind: Playbook
name: cache-small
summary: The cache evicts what is still needed; put it on larger machines.
match: {alertname: CacheEvicts}
mode: auto
target: redis
conclude: [{id: small, when: "true", cause: The cache is too small.}]
steps:
  - {id: larger, for: small, action: elasticache.modify_node_type, with: {node_type: cache.m5.xlarge}}
verify: {settle: 1s, within: 1m, checks: [{check: redis.ping}]}
escalate: {to: [sre], message: The cache is still too small.}
"""
TEST = """\
apiVersion: remediator/v1
kind: PlaybookTest
playbook: cache-small
given: {checks: {redis.ping: [{answer: fail}, {answer: ok, after: elasticache.modify_node_type}]}}
tests:
  - name: nobody agrees, so nothing is done, though the mode is auto
    alerts: [{labels: {alertname: CacheEvicts}}]
    people: [{decide: reject}]
    expect: {mode: auto, messages: [{kind: approval}], steps: {}}
  - name: somebody agrees
    alerts: [{labels: {alertname: CacheEvicts}}]
    people: [{decide: approve}]
    expect: {mode: auto, messages: [{kind: approval}], steps: {larger: ok}, outcome: succeeded}
"""


def test_in_auto_mode_a_person_is_asked_as_well(tmp_path: Path) -> None:
    """The engine asks for an approval even in mode ``auto``, although the playbook does not require one."""
    (tmp_path / "cache-small.yaml").write_text(PLAYBOOK)
    (tmp_path / "cache-small.test.yaml").write_text(TEST)
    kinds = Registry()
    report = run(tmp_path / "cache-small.test.yaml", kinds)

    assert not report.errors and [test.diagnostics for test in report.tests] == [(), ()]


async def test_a_shard_is_failed_over() -> None:
    """The call names the shard, and then another node is its primary."""
    cloud = Cloud()
    async with served(cloud) as target:
        call = await plan(FAILOVER, target)
        result = await do(FAILOVER, target, call=call)
        assert (await observe(FAILOVER, target, call)).happened is EffectStatus.YES

    assert result.outcome is Outcome.OK and cloud.called.count("TestFailover") == 1


async def test_one_of_several_shards_must_be_named() -> None:
    """With several shards, the playbook must name a shard, and the call uses this shard."""
    async with served(Cloud(shards=2)) as target:
        with pytest.raises(TargetError, match="0001, 0002"):
            await plan(FAILOVER, target)
        assert (await plan(FAILOVER, target, node_group="0002")).arguments == {"node_group": "0002"}


@EACH
async def test_what_is_not_there_or_busy_is_not_changed(action: Action, given: dict[str, Any], endpoint: str) -> None:
    """The action is refused if the inventory entry or the group is missing, or if another client is changing the
    group."""
    with pytest.raises(TargetError, match="has no 'elasticache' in the inventory"):
        await plan(action, service("redis"), **given)
    with pytest.raises(TargetError, match="correct the inventory"):
        await plan(action, at(endpoint, "nobody"), **given)
    cloud = Cloud()
    cloud.status = "modifying"
    async with served(cloud) as target:
        with pytest.raises(TargetError, match="is modifying"):
            await plan(action, target, **given)


@pytest.mark.parametrize(
    ("action", "given", "call"), [(*CHANGES[0], "ModifyReplicationGroup"), (*CHANGES[1], "TestFailover")]
)
async def test_what_iam_does_not_allow_is_refused(action: Action, given: dict[str, Any], call: str) -> None:
    """The error contains the message of AWS, and nothing is changed."""
    async with served(Cloud(denies=call)) as target:
        with pytest.raises(Refused, match="AccessDenied: not you"):
            await do(action, target, **given)


@EACH
async def test_no_server_no_answer_and_invalid_answers(action: Action, given: dict[str, Any]) -> None:
    """An unreachable server, a missing answer and an invalid answer have different errors, and no call is repeated."""
    with pytest.raises(Unreachable):
        await plan(action, at("http://127.0.0.1:9"), **given)
    assert await _asked(silence, TimedOut, action, given, timeout="300ms") == 1
    assert await _asked(reply(200, b"{nonsense"), BadAnswer, action, given) == 1
    assert await _asked(hang_up, Unreachable, action, given) == 1


async def _asked(script: Script, error: type[Exception], action: Action, given: dict[str, Any], **more: Any) -> int:
    async with peer(script) as web:
        with pytest.raises(error):
            await plan(action, at(web.url, **more), **given)
        return _requests(web)


def _requests(web: Peer) -> int:
    return len(web.requests)


@pytest.mark.parametrize(
    ("action", "given", "call"), [(*CHANGES[0], "ModifyReplicationGroup"), (*CHANGES[1], "TestFailover")]
)
async def test_a_lost_answer_is_observed_as_done(action: Action, given: dict[str, Any], call: str) -> None:
    """The answer is lost, so the outcome is unknown; the call was sent once, and an observation shows its effect."""
    cloud = Cloud(loses=call)
    async with served(cloud) as target:
        planned = await plan(action, target, **given)
        with pytest.raises(TimedOut, match="unknown"):
            await do(action, target, call=planned, **given)
        assert (await observe(action, target, planned, **given)).happened is EffectStatus.YES

    assert cloud.called.count(call) == 1


async def test_a_failover_without_an_event_stays_unknown() -> None:
    """AWS records events late, so a missing event does not prove that no failover happened."""
    async with served(Cloud()) as target:
        call = await plan(FAILOVER, target)
        assert (await observe(FAILOVER, target, call)).happened is EffectStatus.UNKNOWN


@EACH
async def test_a_change_after_planning_is_refused(action: Action, given: dict[str, Any]) -> None:
    """If another node is primary, or the node type differs from the plan, the action is refused."""
    cloud = Cloud()
    async with served(cloud) as target:
        call = await plan(action, target, **given)
        cloud.primary, cloud.node_type = 2, "cache.r7g.large"
        with pytest.raises(TargetError, match="nothing was changed"):
            await do(action, target, call=call, **given)

    assert set(cloud.called) == {"DescribeReplicationGroups"}


async def test_without_credentials_nothing_is_sent(
    monkeypatch: pytest.MonkeyPatch, endpoint: str, tmp_path: Any
) -> None:
    """The error contains the message of the credential chain."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    with pytest.raises(Unreachable, match="credentials"):
        await do(DESCRIBE, at(endpoint))


async def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the command that installs the extra, without a traceback."""
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(TargetError) as caught:
        await do(DESCRIBE, at("http://127.0.0.1:9"))

    assert str(caught.value) == elasticache.MISSING and "pip install 'remediator[aws]'" in elasticache.MISSING


def test_the_core_does_not_load_boto3() -> None:
    """Neither the registry nor the service imports boto3, because the import takes time and memory that most
    installations do not need."""
    program = "import sys, remediator.service; sys.exit('boto3' in sys.modules or 'botocore' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
