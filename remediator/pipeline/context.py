"""What the verbs are given: the store, the time, the rules and the world, as arguments.

The same verbs run in production, in ``remediator test``, in ``explain`` and in the simulation; only this differs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from remediator.core.clock import Clock
from remediator.core.ids import Ids
from remediator.core.run import Run
from remediator.errors import ConfigurationError, TargetError
from remediator.extensions.actions.base import Action
from remediator.extensions.checks.base import Check
from remediator.extensions.guards.base import Guard
from remediator.extensions.platforms.base import Platform, ServiceStatus
from remediator.playbooks.inventory import Inventory, Service
from remediator.playbooks.model import Playbook
from remediator.storage import Store


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long things may take and how often they are looked at."""

    lease: timedelta = timedelta(seconds=60)
    """A claim lasts so long unless an action needs longer; a replica that died is succeeded after it."""
    margin: timedelta = timedelta(seconds=10)
    """An action's timeout ends this much before the lease does."""
    recheck: timedelta = timedelta(seconds=15)
    """How often a blocked run is judged again when its verdict names no time."""
    look: timedelta = timedelta(milliseconds=500)
    """How often a verification looks again."""
    probe: timedelta = timedelta(seconds=10)
    """Longest time for one check, one diagnosis, one planning call, one guard."""
    patience: timedelta = timedelta(minutes=15)
    """An alert that still fires so long after its run succeeded was not healed."""
    deadline: timedelta = timedelta(hours=1)
    """Longest time from first being allowed to act until the end."""


class PlaybookSet:
    """The playbooks in force, and older versions that open runs still need. Replaced as a whole on reload."""

    def __init__(self, playbooks: Sequence[Playbook], inventory: Inventory, environment: str) -> None:
        self.inventory = inventory
        self.environment = environment
        self.active = tuple(playbooks)
        self._by_hash = {playbook.content_hash: playbook for playbook in playbooks}

    def of(self, run: Run) -> Playbook:
        """The very version that a run began with.

        Raises:
            ConfigurationError: not loaded here; the worker then fetches it from the store.
        """
        try:
            return self._by_hash[run.playbook_hash]
        except KeyError:
            raise ConfigurationError(
                f"playbook {run.playbook} in version {run.playbook_hash[:12]} is not loaded"
            ) from None

    def current(self, name: str) -> Playbook | None:
        """The version in force of the playbook of this name."""
        return next((playbook for playbook in self.active if playbook.name == name), None)

    def versions(self) -> Sequence[Playbook]:
        """Every version that is loaded, in force or not."""
        return tuple(self._by_hash.values())

    def knows(self, content_hash: str) -> bool:
        """Whether this version is loaded."""
        return content_hash in self._by_hash

    def keep(self, playbook: Playbook) -> None:
        """Add an older version that an open run needs; it is not matched against."""
        self._by_hash[playbook.content_hash] = playbook

    def service(self, run: Run) -> Service:
        """The run's target.

        Raises:
            ConfigurationError: the inventory does not have it (any more).
        """
        return self.inventory.service(run.target)


@dataclass(slots=True)
class PipelineContext:
    """Everything that a verb may use."""

    store: Store
    clock: Clock
    ids: Ids
    replica: str
    playbooks: PlaybookSet
    actions: Mapping[str, Action]
    checks: Mapping[str, Check]
    guards: Sequence[Guard]
    guard_defaults: Mapping[str, Any] = field(default_factory=dict)
    """Settings of guards for this installation, by name; a playbook's own go over them."""
    platforms: Mapping[str, Platform] = field(default_factory=dict)
    pace: Timeouts = field(default_factory=Timeouts)
    on_event: Callable[[str, Run, Mapping[str, Any]], None] = lambda kind, run, data: None
    """Told of what happens, for logs and metrics; must not raise."""

    @property
    def actor(self) -> str:
        """This process, as the audit log names it."""
        return f"remediator/{self.replica}"

    def lapsing(self, begun: float) -> bool:
        """Whether too much of the lease is gone to begin a call: this process was paused, or the store was slow.

        Args:
            begun: ``tx.begun`` of the transaction that granted the lease.
        """
        return asyncio.get_running_loop().time() - begun > self.pace.margin.total_seconds() / 2

    async def look_at(self, service: Service) -> ServiceStatus:
        """What the platform says of a service.

        Raises:
            TargetError: it is missing or ambiguous there, or there is no such platform here.
            ClientError: the platform cannot be asked.
        """
        platform = self.platforms.get(service.platform.kind)
        if platform is None:
            raise TargetError(f"{service.name}: there is no platform {service.platform.kind!r} to ask")
        return await platform.status(service)


@dataclass(frozen=True, slots=True)
class StageResult:
    """What a verb leaves: go on at once, or wait for an event or until a time."""

    run: Run
    waits: bool = False
    until: datetime | None = None


def proceed(run: Run) -> StageResult:
    """Go on with the next verb at once."""
    return StageResult(run)


def wait_until(run: Run, until: datetime | None) -> StageResult:
    """Nothing to do before ``until``, or before somebody pokes the run."""
    return StageResult(run, waits=True, until=until)
