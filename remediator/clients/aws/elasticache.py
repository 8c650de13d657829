"""Amazon ElastiCache: one replication group, its node type and roles, and the two changes that we make to it.

Needs the extra ``aws`` (boto3), which is loaded when somebody asks and not before. boto3 blocks, so each call has a
thread, one attempt (nothing is ever repeated by the library) and a timeout; its own chain finds the credentials.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime, timedelta
from types import ModuleType
from typing import Any, TypeVar

import msgspec

from remediator.clients.http import Part
from remediator.errors import BadAnswer, ClientError, Refused, TargetError, TimedOut, Unreachable

MISSING = "ElastiCache needs boto3, which is not installed: pip install 'remediator[aws]'"
_NOT_SENT = (
    "EndpointConnectionError",
    "ConnectTimeoutError",
    "ProxyConnectionError",
    "SSLError",
    "NoCredentialsError",
    "PartialCredentialsError",
    "CredentialRetrievalError",
    "TokenRetrievalError",
    "NoRegionError",
    "InvalidRegionError",
    "ProfileNotFound",
    "ParamValidationError",
    "UnauthorizedSSOTokenError",
)
_MOST_EVENTS = 100
_CONNECTING = 15.0
_SLACK = 5.0

T = TypeVar("T")


class Member(Part, frozen=True, kw_only=True, rename="pascal"):
    """A node. ``current_role`` is primary or replica; empty in cluster mode, where it is not told."""

    cache_cluster_id: str
    current_role: str = ""
    preferred_availability_zone: str = ""


class NodeGroup(Part, frozen=True, kw_only=True, rename="pascal"):
    """A shard: its primary and replicas."""

    node_group_id: str
    status: str = ""
    node_group_members: tuple[Member, ...] = ()

    @property
    def primary(self) -> str | None:
        """The node that takes writes; None if that is not told."""
        found = [each.cache_cluster_id for each in self.node_group_members if each.current_role == "primary"]
        return found[0] if len(found) == 1 else None


class ReplicationGroup(Part, frozen=True, kw_only=True, rename="pascal"):
    """A replication group as it is now. ``status`` is available, modifying, creating, snapshotting, deleting…"""

    replication_group_id: str
    status: str
    cache_node_type: str = ""
    automatic_failover: str = ""
    multi_az: str = msgspec.field(default="", name="MultiAZ")
    engine: str = ""
    cluster_enabled: bool = False
    node_groups: tuple[NodeGroup, ...] = ()


class _Groups(Part, frozen=True, kw_only=True, rename="pascal"):
    replication_groups: tuple[ReplicationGroup, ...]


class Event(Part, frozen=True, kw_only=True, rename="pascal"):
    """What ElastiCache noted about the group."""

    message: str
    date: datetime


class _Events(Part, frozen=True, kw_only=True, rename="pascal"):
    events: tuple[Event, ...]


class ReplicationGroups:
    """The group of one id, in one region.

    Every call raises ``Unreachable`` (not sent, or no credentials), ``TimedOut``, ``Refused`` or ``BadAnswer``, and
    ``TargetError`` where boto3 is not installed or there is no such group.
    """

    def __init__(self, group: str, region: str | None, endpoint_url: str | None, timeout: timedelta) -> None:
        self.group = group
        self._region = region
        self._endpoint_url = endpoint_url
        self._seconds = timeout.total_seconds()

    @property
    def name(self) -> str:
        """For messages."""
        return f"ElastiCache replication group {self.group}{f' in {self._region}' if self._region else ''}"

    async def describe(self) -> ReplicationGroup:
        """As it is now."""
        found = await self._call("describe_replication_groups", _Groups, reads=True, ReplicationGroupId=self.group)
        if len(found.replication_groups) != 1:
            raise TargetError(f"{self.name}: {len(found.replication_groups)} were found, where one was expected")
        return found.replication_groups[0]

    async def events(self, since: datetime) -> tuple[Event, ...]:
        """What was noted since then, at most a hundred of them."""
        window = {"SourceIdentifier": self.group, "SourceType": "replication-group", "StartTime": since}
        found = await self._call("describe_events", _Events, reads=True, MaxRecords=_MOST_EVENTS, **window)
        return found.events

    async def test_failover(self, node_group: str) -> None:
        """Have a replica of this shard become its primary, as if the primary had failed."""
        given = {"ReplicationGroupId": self.group, "NodeGroupId": node_group}
        await self._call("test_failover", dict[str, Any], reads=False, **given)

    async def modify_node_type(self, node_type: str) -> None:
        """Have other machines under it, from now on."""
        given = {"ReplicationGroupId": self.group, "CacheNodeType": node_type, "ApplyImmediately": True}
        await self._call("modify_replication_group", dict[str, Any], reads=False, **given)

    async def _call(self, operation: str, type_: type[T], *, reads: bool, **given: Any) -> T:
        """Connect, then ask: two threads, so that whoever gives up while it connects knows that nothing was sent."""
        what = f"{self.name}: {operation}"
        boto3, exceptions, parsers = _libraries()
        try:
            async with asyncio.timeout(_CONNECTING):
                client = await asyncio.to_thread(self._connected, boto3)
        except TimeoutError:
            raise Unreachable(f"{what} was not sent: no credentials within {_CONNECTING:g} s") from None
        except (exceptions.BotoCoreError, ValueError) as error:
            raise Unreachable(f"{what} was not sent: {error}") from None
        limit = 2 * self._seconds + _SLACK  # boto3's own limits are for connecting, and for each piece of the answer
        try:
            async with asyncio.timeout(limit):
                answer = await asyncio.to_thread(getattr(client, operation), **given)
            return msgspec.convert(answer, type_)
        except TimeoutError:
            raise TimedOut(f"{what} was not answered within {limit:g} s") from None
        except exceptions.ClientError as error:
            raise _refusal(what, error.response, reads) from None
        except (exceptions.BotoCoreError, parsers.ResponseParserError) as error:
            raise _failure(what, error, reads) from None
        except msgspec.ValidationError as error:
            raise BadAnswer(f"{what} answered something unexpected: {error}") from None
        finally:
            client.close()

    def _connected(self, boto3: ModuleType) -> Any:
        from botocore.config import Config  # noqa: PLC0415 - comes with the extra only

        limits = Config(connect_timeout=self._seconds, read_timeout=self._seconds, retries={"total_max_attempts": 1})
        session = boto3.session.Session()
        return session.client("elasticache", region_name=self._region, endpoint_url=self._endpoint_url, config=limits)


def _libraries() -> tuple[ModuleType, ModuleType, ModuleType]:
    try:
        import boto3  # noqa: PLC0415 - comes with the extra only, and takes 100 ms to load
        from botocore import exceptions, parsers  # noqa: PLC0415
    except ImportError:
        raise TargetError(MISSING) from None
    return boto3, exceptions, parsers


def _refusal(what: str, response: Mapping[str, Any], reads: bool) -> ClientError | TargetError:
    """What the service said. After a 5xx to a change nobody knows whether it was made."""
    said = response.get("Error", {})
    code, status = str(said.get("Code", "")), int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    message = f"{what}: {code or status}: {said.get('Message') or 'no text'}"
    if code.startswith("ReplicationGroupNotFound"):
        return TargetError(f"{message}; correct the inventory")
    if status >= 500 and not reads:
        return TimedOut(f"{message}; whether it was done is unknown")
    return Refused(message)


def _failure(what: str, error: Exception, reads: bool) -> ClientError:
    """What a failure of the library means for what was asked; kinds are told by name, for want of a common base."""
    kind = type(error).__name__
    if kind in _NOT_SENT:
        return Unreachable(f"{what} was not sent: {error}")
    if kind == "ReadTimeoutError":
        return TimedOut(f"{what} was not answered in time")
    if kind == "ResponseParserError":
        return BadAnswer(f"{what} answered something unexpected: {str(error)[:300]}")
    return Unreachable(f"{what}: {error}") if reads else TimedOut(f"{what}: {error}; whether it was done is unknown")
