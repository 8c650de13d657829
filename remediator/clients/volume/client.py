"""The files of a service that another process reads and changes: an agent in its pod, or a program on its host."""

from __future__ import annotations

import time
from abc import abstractmethod
from contextlib import aclosing
from datetime import datetime, timedelta
from typing import Any, TypeVar

import msgspec

from remediator.clients.endpoints import Endpoint
from remediator.clients.host.disk import File, Pin, Usage
from remediator.clients.host.folders import Folders
from remediator.clients.host.quarantine import Moved
from remediator.clients.http import HttpClient, HttpRefused
from remediator.clients.ssh.client import RemoteHost
from remediator.clients.ssh.settings import Host
from remediator.clients.volume.files import Volume
from remediator.errors import BadAnswer, Refused, TargetError, TimedOut

T = TypeVar("T")
_PROBLEM: Any = str | None
_CHANGE_SECONDS = 100.0
"""Time for a change. The actions give up after 120 s, so that the agent has stopped before."""
_CHECK_SECONDS = 60.0
"""Time limit of operations that read the content of backups. The agent does not read the same content again."""
_SLACK_SECONDS = 5.0
"""Maximum delay of the answer of an agent that gave up."""


class RemoteVolume(Volume):
    """The files of a service, read and changed by another process."""

    read_seconds: float
    """Time limit of operations that read no content."""

    async def usage(self) -> Usage:
        return await self._read("usage", Usage)

    async def space(self) -> dict[str, int]:
        return await self._read("space", dict[str, int])

    async def backups_usage(self) -> Usage:
        return await self._read("backups-usage", Usage)

    async def backups(self) -> tuple[File, ...]:
        return await self._read("backups", tuple[File, ...])

    async def backup_problem(self, name: str) -> str | None:
        return await self._call("backup-problem", _PROBLEM, _CHECK_SECONDS, reads=True, name=name)

    async def is_quarantine_on_same_filesystem(self) -> bool:
        return await self._read("same-filesystem", bool)

    async def batches(self) -> dict[str, dict[str, Any]]:
        return await self._read("batches", dict[str, dict[str, Any]])

    async def pins(self, files: tuple[File, ...]) -> tuple[Pin, ...]:
        return await self._call("pins", tuple[Pin, ...], _CHECK_SECONDS, reads=True, files=files)

    async def take(self, files: tuple[Pin, ...], batch: str, now: datetime) -> tuple[Moved, ...]:
        return await self._change("take", tuple[Moved, ...], pins=files, batch=batch, now=now)

    async def delete(self, batch: str, sha256: str) -> int:
        return await self._change("delete", int, batch=batch, sha256=sha256)

    async def restore(self, batch: str, sha256: str) -> tuple[str, ...]:
        return await self._change("restore", tuple[str, ...], batch=batch, sha256=sha256)

    async def _read(self, operation: str, type_: type[T], **arguments: Any) -> T:
        return await self._call(operation, type_, self.read_seconds, reads=True, **arguments)

    async def _change(self, operation: str, type_: type[T], **arguments: Any) -> T:
        return await self._call(operation, type_, _CHANGE_SECONDS, reads=False, **arguments)

    @abstractmethod
    async def _call(self, operation: str, type_: type[T], seconds: float, *, reads: bool, **arguments: Any) -> T:
        """Return the result of an operation, which stops after ``seconds``."""


class AgentVolume(RemoteVolume):
    """The files of a service on a volume of a cluster: see `agent`. Also raises what `HttpClient.call` raises."""

    def __init__(self, endpoint: Endpoint, folders: Folders) -> None:
        super().__init__(folders)
        self._endpoint, self.read_seconds = endpoint, endpoint.timeout.total_seconds()

    async def _call(self, operation: str, type_: type[T], seconds: float, *, reads: bool, **arguments: Any) -> T:
        body = {"folders": self.folders, "seconds": seconds, **arguments}
        limits: dict[str, Any] = {"reads": reads, "seconds": seconds + _SLACK_SECONDS}
        async with aclosing(HttpClient(self._endpoint)) as client:
            try:
                return (await client.call("POST", f"/v1/{operation}", json=body, **limits)).json(type_)
            except HttpRefused as error:
                if error.status == 403:
                    raise Refused(f"the agent of the volume refused: {error.text}") from None
                if error.status == 409:
                    raise TargetError(error.text) from None
                if error.status >= 500 and not reads:
                    raise TimedOut(f"{error}; the outcome is unknown") from None
                raise


class HostVolume(RemoteVolume):
    """The files of a service on another host. Also raises what `RemoteHost` raises."""

    read_seconds = 10.0

    def __init__(self, host: Host, folders: Folders) -> None:
        super().__init__(folders)
        self._host = RemoteHost(host)

    async def clock_ahead(self) -> timedelta:
        """Return by how much the clock of the host is ahead of this host's, to the duration of a call."""
        return timedelta(seconds=await self._read("clock", float) - time.time())

    async def _call(self, operation: str, type_: type[T], seconds: float, *, reads: bool, **arguments: Any) -> T:
        given = {"seconds": seconds, "folders": self.folders, **arguments}
        call = self._host.read if reads else self._host.change
        result = await call(f"files-{operation}", **msgspec.to_builtins(given))
        try:
            return msgspec.convert(result, type_)
        except msgspec.ValidationError as error:
            raise BadAnswer(f"{self._host.host}: the answer about {operation} cannot be understood: {error}") from None
