"""The dependencies of the stages: the store, the clock, playbooks, actions, checks and guards, as arguments.

The same stages run in production, in ``remediator test``, in ``remediator explain`` and in the simulation, with other
dependencies.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from remediator.core.approval import Person, Role
from remediator.core.clock import Clock
from remediator.core.ids import Ids
from remediator.core.run import Run
from remediator.errors import ConfigurationError, TargetError
from remediator.extensions.actions.base import Action
from remediator.extensions.checks.base import Check
from remediator.extensions.guards.base import Guard
from remediator.extensions.platforms.base import Platform, ServiceStatus
from remediator.pipeline.live_output import LiveOutputs
from remediator.playbooks.inventory import Inventory, Service
from remediator.playbooks.model import Playbook
from remediator.storage import Store

PASSIVE_MODES = ("observe", "shadow")
"""The modes in which a run never acts."""
DEFECTS = (ArithmeticError, AttributeError, LookupError, OSError, TypeError, ValueError)
"""Exceptions of a defect in an action or a check, also in a plugin."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Time limits and intervals of the pipeline."""

    lease: timedelta = timedelta(seconds=60)
    """Length of a claim, unless an action needs longer. After it, another replica takes over from a dead one."""
    lease_margin: timedelta = timedelta(seconds=10)
    """How long before the end of the lease an action's own timeout ends."""
    guard_recheck_interval: timedelta = timedelta(seconds=15)
    """How often the guards of a blocked run are evaluated when the verdict names no time."""
    max_guard_recheck_interval: timedelta = timedelta(minutes=1)
    """How often they are evaluated at least, also when the verdict names a later time: a calendar, a file or a
    setting may have changed."""
    observe_within: timedelta = timedelta(minutes=2)
    """How long to observe an unreachable target for the effect of a call, after the timeout of the call."""
    verify_interval: timedelta = timedelta(milliseconds=500)
    """How often verification repeats its checks."""
    probe_timeout: timedelta = timedelta(seconds=10)
    """Maximum time for one check, one diagnosis, one planning call and one guard."""
    recurrence_window: timedelta = timedelta(minutes=15)
    """How long a success is watched. It is a relapse if its checks fail or its alert fires again. It is ineffective if
    its alert still fires after this time."""
    watch_interval: timedelta = timedelta(seconds=10)
    """How often the checks of a success are repeated within the recurrence window."""
    incident_window: timedelta = timedelta(minutes=15)
    """Runs of related targets that begin at most this far apart are one incident."""
    run_timeout: timedelta = timedelta(hours=1)
    """Maximum time from the moment a run may act until its end."""


class PlaybookSet:
    """The active playbooks, and older versions that open runs still need. Replaced as a whole on reload."""

    def __init__(self, playbooks: Sequence[Playbook], inventory: Inventory, environment: str) -> None:
        self.inventory = inventory
        self.environment = environment
        self.active = tuple(playbooks)
        self._by_hash = {playbook.content_hash: playbook for playbook in playbooks}
        self.guard_settings: dict[str, Sequence[tuple[Guard, Any]]] = {}
        """The guards that are on and their settings, by the hash of a version; filled when a version is first used."""

    def version_for(self, run: Run) -> Playbook:
        """Return the version of the playbook that a run started with.

        Raises:
            ConfigurationError: it is not loaded here; the worker then loads it from the store.
        """
        try:
            return self._by_hash[run.playbook_hash]
        except KeyError:
            raise ConfigurationError(
                f"playbook {run.playbook!r} version {run.playbook_hash[:12]} is not loaded: neither the files nor the "
                "store have it; retry the run to use the current version"
            ) from None

    def active_version(self, name: str) -> Playbook | None:
        """Return the active version of a playbook; None if there is no active playbook of this name."""
        return next((playbook for playbook in self.active if playbook.name == name), None)

    def versions(self) -> Sequence[Playbook]:
        """Return every loaded version, active or not."""
        return tuple(self._by_hash.values())

    def has_version(self, content_hash: str) -> bool:
        """Return whether this version is loaded."""
        return content_hash in self._by_hash

    def add_version(self, playbook: Playbook) -> None:
        """Add an older version that an open run needs. Alerts are not matched against it."""
        self._by_hash[playbook.content_hash] = playbook

    def with_inventory(self, inventory: Inventory) -> PlaybookSet:
        """Return the same playbooks with another inventory."""
        made = PlaybookSet(self.active, inventory, self.environment)
        made._by_hash = dict(self._by_hash)
        return made

    def service(self, run: Run) -> Service:
        """Return the target of a run.

        Raises:
            ConfigurationError: the inventory no longer has it.
        """
        return self.inventory.service(run.target)


def _unrestricted(who: str, how: str, claimed: Collection[str]) -> Person:
    return Person(who, how, frozenset({Role.ADMIN}))


@dataclass(slots=True)
class PipelineContext:
    """The dependencies that all runs of this process share."""

    store: Store
    clock: Clock
    ids: Ids
    replica: str
    playbooks: PlaybookSet
    actions: Mapping[str, Action]
    checks: Mapping[str, Check]
    guards: Sequence[Guard]
    guard_defaults: Mapping[str, Any] = field(default_factory=dict)
    """Guard settings of this installation, by guard; the settings in a playbook override them."""
    platforms: Mapping[str, Platform] = field(default_factory=dict)
    timeouts: Timeouts = field(default_factory=Timeouts)
    current_person: Callable[[str, str, Collection[str]], Person | None] = _unrestricted
    """Returns a person with the present rights; None if the person is no longer known.

    The arguments are the ID, how the identity was known, and the groups of the provider. The default is for tests of
    playbooks, which have no people file.
    """
    allow_link_only: bool = False
    """Whether a link alone can approve plans of low risk."""
    on_event: Callable[[str, Run, Mapping[str, Any]], None] = lambda kind, run, data: None
    """Called by :meth:`report` for each transition and action, for logs and metrics."""
    live_output: LiveOutputs = field(default_factory=LiveOutputs)
    """The output of calls that this process makes now."""

    @property
    def actor(self) -> str:
        """Return the name of this process in the audit log."""
        return f"remediator/{self.replica}"

    def report(self, kind: str, run: Run, data: Mapping[str, Any]) -> None:
        """Pass an event to the observers. A failed observer never affects the run (promise 14)."""
        with suppress(Exception):  # catch every exception: the caller is between an intent and its outcome
            self.on_event(kind, run, data)

    def lease_is_short(self, began_at: float) -> bool:
        """Return whether too little of the lease is left to start a call: the process was paused, or the store slow.

        Args:
            began_at: ``tx.began_at`` of the transaction that granted the lease.
        """
        return asyncio.get_running_loop().time() - began_at > self.timeouts.lease_margin.total_seconds() / 2

    async def service_status(self, service: Service) -> ServiceStatus:
        """Return the status of a service from its platform.

        Raises:
            TargetError: it is missing or ambiguous, or this installation does not have the platform.
            ClientError: the platform cannot be asked.
        """
        platform = self.platforms.get(service.platform.kind)
        if platform is None:
            raise TargetError(f"service {service.name!r}: platform {service.platform.kind!r} is not configured here")
        return await platform.status(service)


@dataclass(frozen=True, slots=True)
class StageResult:
    """The result of a stage: continue at once, or wait for an event or until a time."""

    run: Run
    waits: bool = False
    until: datetime | None = None


def proceed(run: Run) -> StageResult:
    """Continue with the next stage at once."""
    return StageResult(run)


def wait_until(run: Run, until: datetime | None) -> StageResult:
    """Wait until a time, or until the run is notified; without a time, only until it is notified."""
    return StageResult(run, waits=True, until=until)
