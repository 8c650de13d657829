"""Every path that the service answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import partial

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from remediator.service import Service
from remediator.web import (
    alert_page,
    api,
    approval_inbox,
    approve,
    audit_page,
    chart_image,
    error_pages,
    events,
    form_actions,
    incidents,
    inventory_page,
    overview,
    playbook_pages,
    run_history,
    run_page,
    service_health,
    signin,
    slack,
    statistics_page,
)
from remediator.web.health import Handler
from remediator.web.oidc import OidcClient
from remediator.web.shared_work import SharedWork
from remediator.web.site import HERE, Site


def console(service: Service, webhooks: Mapping[str, ASGIApp], probes: Mapping[str, Handler]) -> Starlette:
    """Return the application with every path.

    Args:
        service: the running service.
        webhooks: the endpoint of each source, by path.
        probes: the handler of each probe, by path.
    """
    site, tests = Site(service), playbook_pages.PlaybookTests()
    app = Starlette(
        routes=[
            *(Route(path, endpoint, methods=["POST"]) for path, endpoint in webhooks.items()),
            *(Route(path, probe) for path, probe in probes.items()),
            *api.routes(site),
            Route("/api/v1/slack/interactions", slack.interactions(site), methods=["POST"]),
            Route("/api/v1/slack/commands", slack.commands(site), methods=["POST"]),
            Route("/", site.page(overview.overview)),
            Route("/alerts/{episode_id}", site.page(partial(alert_page.alert_page, SharedWork("explanation of")))),
            Route("/runs", site.page(run_history.run_history)),
            Route("/runs/{run_id}", site.page(run_page.run_page)),
            Route("/runs/{run_id}/chart.svg", site.page(chart_image.chart)),
            Route("/runs/{run_id}/cancel", site.form(form_actions.cancel), methods=["POST"]),
            Route("/runs/{run_id}/retry", site.form(form_actions.retry), methods=["POST"]),
            Route("/runs", site.form(form_actions.start), methods=["POST"]),
            Route("/runs/{run_id}/undo", site.form(form_actions.undo), methods=["POST"]),
            Route("/runs/{run_id}/comments", site.form(form_actions.comment), methods=["POST"]),
            Route("/incidents/{incident_id}/comments", site.form(form_actions.comment), methods=["POST"]),
            Route("/incidents", site.page(incidents.incident_list)),
            Route("/incidents/{incident_id}", site.page(incidents.incident_page)),
            Route("/playbooks", site.page(playbook_pages.playbook_list)),
            Route("/playbooks/{name}", site.page(partial(playbook_pages.playbook_page, tests))),
            Route("/playbooks/{name}/test", site.form(partial(playbook_pages.run_tests, tests)), methods=["POST"]),
            Route("/audit", site.page(audit_page.audit_log)),
            Route("/inventory", site.page(inventory_page.inventory)),
            Route(
                "/statistics",
                site.page(partial(statistics_page.statistics_page, SharedWork("statistics of", statistics_page.LIFE))),
            ),
            Route("/health", site.page(partial(service_health.health_page, service_health.DoctorRuns(site)))),
            Route("/stop", site.form(form_actions.create_stop), methods=["POST"]),
            Route("/stops/{stop_id}/release", site.form(form_actions.release_stop), methods=["POST"]),
            Route("/approve/{token}", site.open_page(approve.by_link), methods=["GET", "POST"]),
            Route("/approvals", site.page(approval_inbox.inbox)),
            Route("/approvals/{approval_id}", site.page(approve.by_id), methods=["GET", "POST"]),
            Route("/events", site.page(partial(events.events, Counter()))),
            Route("/favicon.ico", _favicon),
            *_sign_in_routes(site),
            Mount("/static", StaticFiles(directory=HERE / "static")),
        ],
        exception_handlers=error_pages.handlers(site),
    )
    app.router.redirect_slashes = False
    return app


async def _favicon(request: Request) -> Response:
    return RedirectResponse("/static/icon.svg", 301)


def _sign_in_routes(site: Site) -> list[BaseRoute]:
    routes: list[BaseRoute] = [
        Route("/sign-in", partial(signin.show, site)),
        Route("/sign-in", partial(signin.by_token, site), methods=["POST"]),
        Route("/sign-out", partial(signin.sign_out_form, site), methods=["POST"]),
    ]
    settings = site.service.config.access.oidc
    if settings is not None:
        client = OidcClient(settings, f"{site.service.config.public_url.rstrip('/')}/sign-in/oidc/back")
        routes.append(Route("/sign-in/oidc", partial(signin.begin_oidc, site, client)))
        routes.append(Route("/sign-in/oidc/back", partial(signin.finish_oidc, site, client)))
    return routes
