"""The health page: replicas, results of the doctor, channels and their newest messages, Alertmanager and Prometheus."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import Response

from remediator.authoring import doctor
from remediator.authoring.doctor.base import Examination, Level, Result, labels_of
from remediator.extensions.guard_settings import watchdog_max_silence
from remediator.runtime.maintenance import REPLICA_TIMEOUT
from remediator.runtime.notification_reach import reach_problem
from remediator.storage.repositories import inbox, key_values, outbox, replicas
from remediator.storage.repositories.outbox import ChannelState
from remediator.storage.repositories.replicas import Replica
from remediator.web.authentication import RequestIdentity
from remediator.web.shared_work import SharedWork
from remediator.web.site import Site

LIFE = 300.0
"""Seconds for which an examination is shown again. It queries targets and servers, so page views must not repeat it."""
_WAIT = 2.0
"""Seconds for which the page waits for an examination that is running."""
_LEVELS = (Level.FAILED, Level.WARNING, Level.SKIPPED, Level.OK)


@dataclass(frozen=True, slots=True)
class Examined:
    """The results of an examination."""

    at: datetime
    results: Sequence[tuple[str, Result]]
    error: str = ""
    """Reason why there are no results."""

    @property
    def by_level(self) -> list[tuple[Level, list[tuple[str, Result]]]]:
        """Return the results by level, the worst first."""
        groups = [(level, [item for item in self.results if item[1].level is level]) for level in _LEVELS]
        return [(level, found) for level, found in groups if found]


@dataclass(slots=True)
class DoctorRuns:
    """One examination for all readers, in the background."""

    site: Site
    last: Examined | None = None
    _examinations: SharedWork[Examined] = field(default_factory=lambda: SharedWork("examination for the page", LIFE))

    async def get(self) -> tuple[Examined | None, bool]:
        """Return the newest results, and whether a newer examination is running."""
        task = self._examinations.start("", self._examine)
        done, _ = await asyncio.wait({task}, timeout=_WAIT)
        if done:
            self.last = task.result()
        return self.last, not done

    async def _examine(self) -> Examined:
        service, now = self.site.service, self.site.now
        loaded = await asyncio.to_thread(service.reload.read)
        about = Examination(
            service.access.settings_file or Path("remediator.yaml"),
            service.config,
            service.registry,
            loaded,
            service.access.people,
            now,
            labels=labels_of(loaded),
        )
        try:
            async with asyncio.timeout(LIFE):
                return Examined(now, await doctor.examine(about))
        except TimeoutError:
            return Examined(now, (), f"the examination did not end within {LIFE:g} s")


@dataclass(frozen=True, slots=True)
class HealthState:
    """The stored state of the service itself."""

    replicas: Sequence[Replica]
    channels: Sequence[ChannelState]
    dead: Sequence[outbox.OutboxMessage]
    inbox: int
    """Number of received notifications that were not processed yet."""
    watchdog_at: datetime | None
    watchdog_problem: str


async def health_page(examinations: DoctorRuns, site: Site, request: Request, identity: RequestIdentity) -> Response:
    """Answer ``GET /health``."""
    now, config = site.now, site.service.config

    def read(connection: Connection) -> HealthState:
        watchdog = key_values.get(connection, key_values.WATCHDOG)
        return HealthState(
            replicas.list_alive(connection, now - REPLICA_TIMEOUT),
            outbox.channel_states(connection),
            outbox.list_dead(connection, 10),
            inbox.count_pending(connection),
            None if watchdog is None else watchdog.at,
            key_values.watchdog_problem(connection, now, watchdog_max_silence(config)),
        )

    state = await site.service.context.store.view(read)
    examined, running = await examinations.get()
    notifiers = await asyncio.to_thread(site.service.registry.make_channels, config.channels)
    return site.render(
        request,
        identity,
        "health.html",
        state=state,
        examined=examined,
        running=running,
        channels=config.channels,
        reach=reach_problem(notifiers),
        alertmanagers=[peer.url for peer in config.alertmanagers],
        sources={name: [peer.url for peer in peers] for name, peers in site.service.clients.sources.items()},
        prometheus=None if config.prometheus is None else config.prometheus.url,
        live=True,
    )
