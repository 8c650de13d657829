"""Amazon ElastiCache client for one replication group: node type, roles, failover test and change of node type.

It needs the extra ``aws`` (boto3), which is imported at the first call. Because boto3 blocks, each call runs in a
thread, with one attempt (no retries by the library) and a timeout. The credential chain of boto3 provides the
credentials.
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
    """A node. ``current_role`` is primary or replica, or empty in cluster mode."""

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
        """The node that accepts writes, or None if it is not reported."""
        found = [each.cache_cluster_id for each in self.node_group_members if each.current_role == "primary"]
        return found[0] if len(found) == 1 else None


class ReplicationGroup(Part, frozen=True, kw_only=True, rename="pascal"):
    """A replication group. ``status`` is available, modifying, creating, snapshotting, deleting…"""

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
    """An event of the group."""

    message: str
    date: datetime


class _Events(Part, frozen=True, kw_only=True, rename="pascal"):
    events: tuple[Event, ...]


class ReplicationGroups:
    """A client of one replication group in one region.

    Every call raises ``Unreachable`` (not sent, or no credentials), ``TimedOut``, ``Refused`` or ``BadAnswer``. It
    raises ``TargetError`` if boto3 is not installed or the group does not exist.
    """

    def __init__(self, group: str, region: str | None, endpoint_url: str | None, timeout: timedelta) -> None:
        self.group = group
        self._region = region
        self._endpoint_url = endpoint_url
        self._seconds = timeout.total_seconds()

    @property
    def name(self) -> str:
        """Name for messages."""
        return f"ElastiCache replication group {self.group}{f' in {self._region}' if self._region else ''}"

    async def describe(self) -> ReplicationGroup:
        """Return the current state of the group."""
        found = await self._call("describe_replication_groups", _Groups, reads=True, ReplicationGroupId=self.group)
        if len(found.replication_groups) != 1:
            raise TargetError(f"{self.name}: expected one group, found {len(found.replication_groups)}")
        return found.replication_groups[0]

    async def events(self, since: datetime) -> tuple[Event, ...]:
        """Return the events since a time, at most 100."""
        window = {"SourceIdentifier": self.group, "SourceType": "replication-group", "StartTime": since}
        found = await self._call("describe_events", _Events, reads=True, MaxRecords=_MOST_EVENTS, **window)
        return found.events

    async def test_failover(self, node_group: str) -> None:
        """Make a replica of this shard its primary, as if the primary had failed."""
        given = {"ReplicationGroupId": self.group, "NodeGroupId": node_group}
        await self._call("test_failover", dict[str, Any], reads=False, **given)

    async def modify_node_type(self, node_type: str) -> None:
        """Change the node type of the group immediately."""
        given = {"ReplicationGroupId": self.group, "CacheNodeType": node_type, "ApplyImmediately": True}
        await self._call("modify_replication_group", dict[str, Any], reads=False, **given)

    async def _call(self, operation: str, type_: type[T], *, reads: bool, **given: Any) -> T:
        """Connect, then call. These are two steps, so that a timeout while connecting proves that nothing was sent."""
        what = f"{self.name}: {operation}"
        try:
            import boto3  # noqa: PLC0415 - comes with the extra only, and takes 100 ms to load
            from botocore import exceptions, parsers  # noqa: PLC0415
        except ImportError:
            raise TargetError(MISSING) from None
        try:
            async with asyncio.timeout(_CONNECTING):
                client = await asyncio.to_thread(self._connected, boto3)
        except TimeoutError:
            raise Unreachable(f"{what} was not sent: no credentials within {_CONNECTING:g} s") from None
        except (exceptions.BotoCoreError, ValueError) as error:
            raise Unreachable(f"{what} was not sent: {error}") from None
        limit = 2 * self._seconds + _SLACK  # boto3 limits only connecting and each part of the answer
        try:
            async with asyncio.timeout(limit):
                answer = await asyncio.to_thread(getattr(client, operation), **given)
            return msgspec.convert(answer, type_)
        except TimeoutError:
            raise TimedOut(f"{what}: no answer within {limit:g} s") from None
        except exceptions.ClientError as error:
            raise _refusal(what, error.response, reads) from None
        except (exceptions.BotoCoreError, parsers.ResponseParserError) as error:
            raise _failure(what, error, reads) from None
        except msgspec.ValidationError as error:
            raise BadAnswer(f"{what}: unexpected answer: {error}") from None
        finally:
            client.close()

    def _connected(self, boto3: ModuleType) -> Any:
        from botocore.config import Config  # noqa: PLC0415 - comes with the extra only

        limits = Config(connect_timeout=self._seconds, read_timeout=self._seconds, retries={"total_max_attempts": 1})
        session = boto3.session.Session()
        return session.client("elasticache", region_name=self._region, endpoint_url=self._endpoint_url, config=limits)


def _refusal(what: str, response: Mapping[str, Any], reads: bool) -> ClientError | TargetError:
    """Return the error for a rejected call. After a 5xx to a change, the outcome is unknown."""
    details = response.get("Error", {})
    code, status = str(details.get("Code", "")), int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    message = f"{what}: {code or status}: {details.get('Message') or 'no message'}"
    if code.startswith("ReplicationGroupNotFound"):
        return TargetError(f"{message}; correct the inventory")
    if status >= 500 and not reads:
        return TimedOut(f"{message}; the outcome is unknown")
    return Refused(message)


def _failure(what: str, error: Exception, reads: bool) -> ClientError:
    """Return the error for a failure of boto3. Exceptions are compared by name, since they have no common base."""
    kind = type(error).__name__
    if kind in _NOT_SENT:
        return Unreachable(f"{what} was not sent: {error}")
    if kind == "ReadTimeoutError":
        return TimedOut(f"{what}: no answer in time")
    if kind == "ResponseParserError":
        return BadAnswer(f"{what}: unexpected answer: {str(error)[:300]}")
    return Unreachable(f"{what}: {error}") if reads else TimedOut(f"{what}: {error}; the outcome is unknown")
