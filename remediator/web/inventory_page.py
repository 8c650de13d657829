"""The inventory: services with their dependencies, health, locks and last runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import Response

from remediator.core.run import Episode, EpisodeStatus, Run, Status
from remediator.playbooks.inventory import Service
from remediator.reporting.charts import lay_out_dependencies
from remediator.storage.repositories import episodes, runs, stops, target_locks
from remediator.storage.repositories.stops import Stop
from remediator.web.authentication import RequestIdentity
from remediator.web.site import Site

_MAX_ALERTS = 500
_MAX_SERVICES = 200
_MAX_RUNS = 3


@dataclass(frozen=True, slots=True)
class ServiceState:
    """A service with its current state in the store."""

    service: Service
    firing: Sequence[Episode]
    lock: Run | None
    """The run that holds its target lock."""
    recent: Sequence[Run]
    """Its last runs, the newest first."""
    stops: Sequence[Stop]
    source: str
    """The discovery that found it; empty if it is written."""

    @property
    def health(self) -> str:
        """Return the health of the service from the store: a page queries no target."""
        if self.lock is not None and self.lock.finished_at is not None:
            return "locked: the outcome of a call is unknown"
        if self.lock is not None:
            return "being repaired"
        if self.firing:
            return "alert firing"
        if self.recent and self.recent[0].status is Status.SUCCEEDED:
            return "healed; no alert fires"
        return "no alert fires"

    @property
    def well(self) -> bool:
        """Whether nothing is wrong with it."""
        return not self.firing and self.lock is None


async def inventory(site: Site, request: Request, identity: RequestIdentity) -> Response:
    """Answer ``GET /inventory``."""
    loaded, now = site.service.context.playbooks.inventory, site.now

    def read(connection: Connection) -> dict[str, ServiceState]:
        firing: dict[str, list[Episode]] = {}
        for alert in episodes.list_open(connection, _MAX_ALERTS):
            if alert.status is EpisodeStatus.FIRING:
                for service in loaded.services_for(alert.labels):
                    firing.setdefault(service.name, []).append(alert)
        active = stops.list_active(connection, now)
        locks = {run.target: run for run in target_locks.list_lock_holders(connection)}
        return {
            name: ServiceState(
                loaded.services[name],
                firing.get(name, ()),
                locks.get(name),
                runs.list_page(connection, _MAX_RUNS, only=runs.RunFilter(target=name)),
                [stop for stop in active if stop.applies_to("", name)],
                loaded.source_of(name),
            )
            for name in sorted(loaded.services)[:_MAX_SERVICES]
        }

    states = await site.service.context.store.view(read)
    more = max(0, len(loaded.services) - _MAX_SERVICES)
    drawn = lay_out_dependencies(
        {name: [each for each in state.service.depends_on if each in states] for name, state in states.items()},
        {name: state.service.platform.kind for name, state in states.items()},
    )
    return site.render(request, identity, "inventory.html", states=states, more=more, drawn=drawn, live=True)
