"""Typed answers of a Docker Engine, without environment variables, since they contain secrets."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

from remediator.clients.http import Part

Document = Mapping[str, Any]
"""The Engine's complete document of a container or image, secrets included. Use it only to recreate a container."""


class Listed(Part, frozen=True, kw_only=True, rename="pascal"):
    """A container in a list. ``state`` is created, running, paused, restarting, removing, exited or dead."""

    id: str
    names: tuple[str, ...] = ()
    image: str
    labels: dict[str, str] | None = None
    state: str
    status: str
    created: int

    @property
    def name(self) -> str:
        """Own name of the container, without names from links."""
        return next((name[1:] for name in self.names if name.count("/") == 1), self.id[:12])


class Health(Part, frozen=True, kw_only=True, rename="pascal"):
    """Result of the health check: starting, healthy, unhealthy or none."""

    status: str


class ContainerState(Part, frozen=True, kw_only=True, rename="pascal"):
    """State of one container. ``started_at`` and ``finished_at`` are in year 1 if that never happened."""

    status: str
    running: bool
    restarting: bool
    oom_killed: bool = msgspec.field(name="OOMKilled")
    pid: int
    exit_code: int
    error: str
    started_at: datetime
    finished_at: datetime
    health: Health | None = None


class Settings(Part, frozen=True, kw_only=True, rename="pascal"):
    """The part of a container's configuration without secrets."""

    image: str
    labels: dict[str, str] | None = None
    tty: bool = False


class RestartPolicy(Part, frozen=True, kw_only=True, rename="pascal"):
    """When Docker starts a container again: no, always, unless-stopped or on-failure."""

    name: str = ""


class HostSettings(Part, frozen=True, kw_only=True, rename="pascal"):
    """The part of a container's host configuration that is read."""

    restart_policy: RestartPolicy = RestartPolicy()
    memory: int = 0
    """Memory limit in bytes; 0 if there is no limit."""


class ContainerPin(msgspec.Struct, frozen=True):
    """Identifies one start of one container."""

    id: str
    started: datetime
    restarts: int = 0
    """Number of restarts by Docker until this start. Docker counts a restart before the process starts."""


class Container(Part, frozen=True, kw_only=True, rename="pascal"):
    """One container. ``image`` is the ID of its image, ``config.image`` the image's name at creation."""

    id: str
    name: str
    created: datetime
    image: str
    restart_count: int
    state: ContainerState
    config: Settings
    host_config: HostSettings = HostSettings()

    @property
    def labels(self) -> dict[str, str]:
        """Labels, including those of the image."""
        return self.config.labels or {}

    @property
    def pin(self) -> ContainerPin:
        """Pin for a later call, which is rejected if another user restarted the container in between."""
        return ContainerPin(self.id, self.state.started_at, self.restart_count - self.state.restarting)

    def matches(self, pin: ContainerPin) -> bool:
        """Return whether this is the pinned start, or a later one by Docker itself: a crash loop goes on."""
        return self.id == pin.id and (self.state.started_at == pin.started or self.restart_count > pin.restarts)


class Logs(msgspec.Struct, frozen=True):
    """The end of a container's output, mixed and by stream. With a terminal, everything is in ``stdout``."""

    text: str
    stdout: str
    stderr: str
    cut: bool


class Stats(msgspec.Struct, frozen=True):
    """Resource usage at one time. ``cpu_seconds`` only grows, so the load is the difference of two samples.

    ``memory`` excludes file cache that the kernel can drop. Without a limit, ``memory_limit`` is the host's memory.
    """

    at: datetime
    cpu_seconds: float
    memory: int
    memory_limit: int
    processes: int


class Event(msgspec.Struct, frozen=True):
    """An event of the Engine, such as ``container die`` with its exit code."""

    at: datetime
    type: str
    action: str
    id: str
    attributes: dict[str, str]


class ImageMetadata(Part, frozen=True, kw_only=True, rename="pascal"):
    """Time when an image arrived on the host by pull, build or tag. Some image stores do not record it."""

    last_tag_time: datetime | None = None


class Image(Part, frozen=True, kw_only=True, rename="pascal"):
    """An image on the host. ``created`` is the build time; reproducible builds have a fixed one."""

    id: str
    repo_tags: tuple[str, ...] | None = None
    created: datetime
    size: int
    metadata: ImageMetadata = ImageMetadata()

    @property
    def tags(self) -> tuple[str, ...]:
        """Names of the image."""
        return self.repo_tags or ()


class ListedImage(Part, frozen=True, kw_only=True, rename="pascal"):
    """An image in a list. ``created`` is Unix time in seconds."""

    id: str
    repo_tags: tuple[str, ...] | None = None
    labels: dict[str, str] | None = None
    created: int
    size: int


class _CpuUsage(msgspec.Struct):
    total_usage: int


class _Cpu(msgspec.Struct):
    cpu_usage: _CpuUsage


class _Memory(msgspec.Struct):
    usage: int = 0
    limit: int = 0
    stats: dict[str, int] = {}


class _Processes(msgspec.Struct, frozen=True):
    current: int = 0


class RawStats(msgspec.Struct):
    """The Engine's form of `Stats`."""

    read: datetime
    cpu_stats: _Cpu
    memory_stats: _Memory
    pids_stats: _Processes = _Processes()

    def plain(self) -> Stats:
        """Convert to `Stats`. The two versions of cgroups use different names for droppable file cache."""
        detail = self.memory_stats.stats
        cache = detail.get("total_inactive_file", detail.get("inactive_file", 0))
        return Stats(
            at=self.read,
            cpu_seconds=self.cpu_stats.cpu_usage.total_usage / 1e9,
            memory=max(self.memory_stats.usage - cache, 0),
            memory_limit=self.memory_stats.limit,
            processes=self.pids_stats.current,
        )


class _Actor(Part, frozen=True, kw_only=True, rename="pascal"):
    id: str = msgspec.field(name="ID")
    attributes: dict[str, str] | None = None


class RawEvent(msgspec.Struct):
    """The Engine's form of `Event`."""

    type: str = msgspec.field(name="Type")
    action: str = msgspec.field(name="Action")
    actor: _Actor = msgspec.field(name="Actor")
    time_nano: int = msgspec.field(name="timeNano")

    def plain(self) -> Event:
        """Convert to `Event`."""
        at = datetime.fromtimestamp(self.time_nano / 1e9, UTC)
        return Event(at, self.type, self.action, self.actor.id, self.actor.attributes or {})


StreamName = Literal["stdout", "stderr"]


def demultiplex(body: bytes) -> list[tuple[StreamName, bytes]]:
    """Split the output into frames. Each frame has a header with the number of its stream and its length.

    An incomplete last frame is returned as far as it was received.
    """
    pieces: list[tuple[StreamName, bytes]] = []
    at = 0
    while at + 8 <= len(body):
        length = int.from_bytes(body[at + 4 : at + 8], "big")
        pieces.append(("stderr" if body[at] == 2 else "stdout", body[at + 8 : at + 8 + length]))
        at += 8 + length
    return pieces
