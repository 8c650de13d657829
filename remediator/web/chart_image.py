"""``GET /runs/<id>/chart.svg``: the alert's expression before and after the run, from Prometheus."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

from starlette.requests import Request
from starlette.responses import Response

from remediator.clients.prometheus.client import Prometheus
from remediator.core.run import Episode, EpisodeKind, Run
from remediator.errors import RemediatorError
from remediator.reporting.alert_series import query_alert
from remediator.reporting.charts import Mark, line_chart
from remediator.reporting.formatting import format_datetime
from remediator.storage.repositories import episodes, runs
from remediator.web.authentication import RequestIdentity
from remediator.web.site import HEADERS, Site

_MARGIN = timedelta(minutes=5)
"""Time shown before the alert and after the run."""
_POINTS = 240
_TIMEOUT = 4.0
_POLICY = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox"}


async def chart(site: Site, request: Request, identity: RequestIdentity) -> Response:
    """Return the handler. It answers 404 without Prometheus or alerts, and 502 if Prometheus does not answer."""
    run_id = request.path_params["run_id"]
    store, prometheus = site.service.context.store, site.service.clients.prometheus
    run = await store.view(lambda connection: runs.get(connection, run_id))
    found = await store.view(lambda connection: episodes.list_for_run(connection, run_id))
    alerts = [item for item in found if item.kind is EpisodeKind.ALERT]
    if run is None or not alerts or prometheus is None:
        return Response("no data for a chart\n", 404, HEADERS)
    try:
        async with asyncio.timeout(_TIMEOUT):
            drawn = await draw(prometheus, run, alerts[0], site.now)
    except (RemediatorError, TimeoutError):
        return Response("no chart: Prometheus did not answer\n", 502, HEADERS)
    return Response(drawn, 200, {**HEADERS, **_POLICY}, "image/svg+xml")


async def draw(prometheus: Prometheus, run: Run, alert: Episode, now: datetime) -> str:
    """Return an SVG chart of the alert's expression, from 5 minutes before the alert until 5 minutes after the run.

    Raises:
        ClientError: Prometheus does not answer the query.
    """
    start = min(alert.started_at, run.created_at) - _MARGIN
    end = max(min(now, (run.finished_at or now) + _MARGIN), start + timedelta(minutes=1))
    lines, limit = await query_alert(prometheus, alert.alertname, start, end, _POINTS)
    marks = [Mark(alert.started_at, "alert fires")]
    if run.first_action_at is not None:
        marks.append(Mark(run.first_action_at, "first action"))
    if run.finished_at is not None:
        marks.append(Mark(run.finished_at, run.status.value))
    label = f"The expression of {alert.alertname} from {format_datetime(start)} to {format_datetime(end)}"
    return str(line_chart(lines, start, end, limit, marks, label, standalone=True))
