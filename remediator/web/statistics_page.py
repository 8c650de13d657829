"""Statistics of a period as charts: the report, on a page."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import Response

from remediator.reporting.document import Section
from remediator.reporting.period import render, tables
from remediator.reporting.period.statistics import ReportRequest, build_report
from remediator.storage.repositories import reports
from remediator.web.authentication import RequestIdentity
from remediator.web.shared_work import SharedWork
from remediator.web.site import Site

PERIODS = {"1d": timedelta(days=1), "7d": timedelta(days=7), "30d": timedelta(days=30), "90d": timedelta(days=90)}
MINUTES = 30.0
"""Assumed minutes of manual work for one incident. The page states the assumption."""
MAX_RUNS = 20_000
"""Maximum number of runs on a page, so that its cost does not grow with the history."""
LIFE = 60.0
"""Seconds for which a computed page is shown again."""


Statistics = tuple[list[Section], str, datetime | None]
"""The sections, the sources, and where the period was cut because it has too many runs."""


async def statistics_page(
    computed: SharedWork[Statistics], site: Site, request: Request, identity: RequestIdentity
) -> Response:
    """Answer ``GET /statistics``."""
    asked = request.query_params.get("last", "7d")
    period = asked if asked in PERIODS else "7d"
    sections, sources, cut = await computed.get(period, lambda: _compute(site, period))
    return site.render(
        request,
        identity,
        "statistics.html",
        sections=sections,
        sources=sources,
        cut=cut,
        max_runs=MAX_RUNS,
        period=period,
        periods=list(PERIODS),
        live=False,
    )


async def _compute(site: Site, period: str) -> Statistics:
    now, environment = site.now, site.service.config.environment

    def read(connection: Connection) -> Statistics:
        begin = reports.newest_runs_begin_at(connection, MAX_RUNS)
        since = now - PERIODS[period]
        cut = begin if begin is not None and begin > since else None
        report = build_report(connection, ReportRequest(cut or since, now, environment, MINUTES))
        return render.sections(report), tables.footer(report), cut

    return await site.service.context.store.view(read)
