"""The services of one worker and their construction."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, Request

from app.admission import Admission
from app.cache import Cache
from app.catalogue import Catalogue
from app.faults import FaultBoard
from app.health import Health
from app.link import RedisLink, connect
from app.metrics import Metrics
from app.monitor import Monitor
from app.records import Records
from app.release import Release
from app.sessions import Sessions
from app.settings import Settings


@dataclass(frozen=True)
class Services:
    """All services that a request can use."""

    settings: Settings
    link: RedisLink
    records: Records
    cache: Cache
    catalogue: Catalogue
    sessions: Sessions
    health: Health
    admission: Admission
    faults: FaultBoard
    metrics: Metrics
    monitor: Monitor

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Open the services and run the monitor. Close them in reverse order, also if the start fails."""
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self.link.close)
            stack.push_async_callback(self.records.close)
            await self.records.open()
            await self.monitor.check()
            await stack.enter_async_context(_in_background(self.monitor))
            yield


def build(settings: Settings, release: Release, metrics: Metrics) -> Services:
    """Return all services, not opened yet. Raise SettingsError."""
    settings.state_dir.mkdir(parents=True, exist_ok=True)
    link = RedisLink(connect(settings), settings.redis_timeout, metrics)
    records = Records(settings.record_file)
    cache = Cache(link, settings.cache_ttl, metrics)
    catalogue = Catalogue(records, cache, metrics)
    return Services(
        settings=settings,
        link=link,
        records=records,
        cache=cache,
        catalogue=catalogue,
        sessions=Sessions(link, settings.session_ttl, metrics),
        health=Health(link, records, release.version),
        admission=Admission(settings.max_in_flight, metrics),
        faults=FaultBoard(settings.state_dir / "faults.json", enabled=settings.faults_enabled, release=release.faults),
        metrics=metrics,
        monitor=Monitor(link, catalogue, metrics),
    )


@asynccontextmanager
async def _in_background(monitor: Monitor) -> AsyncIterator[None]:
    task = asyncio.create_task(monitor.run())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def _of(request: Request) -> Services:
    return cast(Services, request.app.state.services)


async def _admitted(request: Request) -> AsyncIterator[None]:
    services = _of(request)
    with services.admission.enter():
        await services.faults.inject()
        yield


Parts = Annotated[Services, Depends(_of)]
Admitted = Depends(_admitted)
