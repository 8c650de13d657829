"""One alert: its labels, its runs, and for every playbook why it matches or not."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import Response

from remediator.authoring.explain import Explanation, explain_alert
from remediator.core.alert import fingerprint
from remediator.core.approval import Permission
from remediator.core.run import Episode
from remediator.pipeline.match import Explanation as Match
from remediator.storage.repositories import episodes
from remediator.web.authentication import RequestIdentity
from remediator.web.overview import alert_card, runs_of_alerts
from remediator.web.shared_work import SharedWork
from remediator.web.site import Site

_MAX_PLAYBOOKS = 50


async def alert_page(
    planning: SharedWork[Sequence[Explanation]], site: Site, request: Request, identity: RequestIdentity
) -> Response:
    """Answer ``GET /alerts/<episode>``. Planning asks the target, so readers at the same time share it."""
    episode_id = request.path_params["episode_id"]
    alert, its_runs = await site.service.context.store.view(
        lambda connection: (
            found := episodes.get(connection, episode_id),
            {} if found is None else runs_of_alerts(connection, [found]),
        )
    )
    if alert is None:
        text = f"There is no alert {episode_id[:64]!r}. Alerts are kept for timing.run_retention."
        return site.error_page(request, identity, 404, "Alert not found", text)
    listed = its_runs.get(alert.id, [])
    may_explain = identity.person is not None and site.service.reaches_targets
    planned = None
    if may_explain and request.query_params.get("plan") == "yes":
        planned = await planning.get(alert.id, lambda: _plan(site, alert))
    explained = sorted(site.service.worker.index.explain(alert.labels), key=_distance)
    return site.render(
        request,
        identity,
        "alert.html",
        card=alert_card(site, alert, listed),
        runs=listed,
        planned=planned,
        may_explain=may_explain,
        fingerprint=fingerprint(alert.labels),
        explained=explained[:_MAX_PLAYBOOKS],
        more=max(0, len(explained) - _MAX_PLAYBOOKS),
        may_retry=identity.may(Permission.RETRY),
        live=True,
    )


async def _plan(site: Site, alert: Episode) -> Sequence[Explanation]:
    found = await explain_alert(site.service.context, site.service.config, alert.labels)
    return [item for item in found if not item.missing]


def _distance(found: Match) -> tuple[bool, bool, int, str]:
    other = any(item.label == "alertname" for item in found.unmet)
    return not found.matches, other, len(found.unmet), found.playbook.name
