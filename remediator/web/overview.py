"""The overview: firing alerts, the state of their remedies with the reason, and waiting requests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import Response

from remediator.core.approval import Permission
from remediator.core.run import Episode, EpisodeKind, EpisodeStatus, Run
from remediator.extensions.guard_settings import watchdog_max_silence
from remediator.reporting.alert_links import Link, alert_links
from remediator.reporting.alert_state import AlertState, describe_alert
from remediator.storage.repositories import approvals, audit, episodes, key_values, outbox, runs
from remediator.storage.repositories.approvals import Approval
from remediator.web.authentication import RequestIdentity
from remediator.web.site import Site

_MAX_ALERTS = 60
_MAX_OPEN_RUNS = 100


@dataclass(frozen=True, slots=True)
class AlertCard:
    """A firing alert, with the state of its remedy."""

    alert: Episode
    state: AlertState
    links: Sequence[Link]


@dataclass(frozen=True, slots=True)
class Overview:
    """The current state, from one snapshot of the store."""

    firing: Sequence[Episode]
    runs_of: Mapping[str, Sequence[Run]]
    """The runs of each firing episode that is shown, the newest first."""
    open_runs: Sequence[Run]
    pending: Sequence[tuple[Approval, Run | None]]
    recent: Sequence[Run]
    dead: Sequence[outbox.OutboxMessage]
    watchdog_at: datetime | None
    watchdog_problem: str
    """The reason why alerts may be missing; empty if the Watchdog alert arrives."""
    head: int


async def overview(site: Site, request: Request, identity: RequestIdentity) -> Response:
    """Answer ``GET /``."""
    now, max_silence = site.now, watchdog_max_silence(site.service.config)

    def read(connection: Connection) -> Overview:
        alerts = [item for item in episodes.list_open(connection) if item.kind is EpisodeKind.ALERT]
        firing = [item for item in alerts if item.status is EpisodeStatus.FIRING]
        watchdog = key_values.get(connection, key_values.WATCHDOG)
        return Overview(
            firing,
            runs_of_alerts(connection, firing[:_MAX_ALERTS]),
            runs.list_page(connection, _MAX_OPEN_RUNS, only=runs.OPEN_ONLY),
            [(item, runs.get(connection, item.run_id)) for item in approvals.list_pending(connection, 50)],
            [run for run in runs.list_page(connection, 12) if run.finished_at is not None],
            outbox.list_dead(connection, 5),
            None if watchdog is None else watchdog.at,
            key_values.watchdog_problem(connection, now, max_silence),
            audit.get_head(connection).seq,
        )

    state = await site.service.context.store.view(read)
    return site.render(
        request,
        identity,
        "overview.html",
        state=state,
        cards=[alert_card(site, alert, state.runs_of.get(alert.id, ())) for alert in state.firing[:_MAX_ALERTS]],
        may_retry=identity.may(Permission.RETRY),
        live=True,
    )


def alert_card(site: Site, alert: Episode, its_runs: Sequence[Run]) -> AlertCard:
    """Return an alert with the state of its remedy and its links to other tools."""
    loaded = site.service.context.playbooks
    state = describe_alert(alert, its_runs, site.service.worker.index)
    services = loaded.inventory.services_for(alert.labels)
    service = state.run.target if state.run is not None else services[0].name if services else ""
    playbook = "" if state.run is None else state.run.playbook
    return AlertCard(alert, state, alert_links(site.service.config, alert, service, playbook, site.now))


def runs_of_alerts(connection: Connection, alerts: Sequence[Episode]) -> dict[str, list[Run]]:
    """Return the runs of each of these alerts, the newest first."""
    found = episodes.run_ids_by_episode(connection, [item.id for item in alerts])
    known = {run_id: runs.get(connection, run_id) for ids in found.values() for run_id in ids}
    return {
        episode_id: sorted(
            (run for run_id in ids if (run := known[run_id]) is not None), key=lambda run: run.created_at, reverse=True
        )
        for episode_id, ids in found.items()
    }
