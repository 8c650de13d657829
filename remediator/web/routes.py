"""Every path that the service answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from operator import itemgetter

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from remediator.config import Config
from remediator.core.alert import ALERTMANAGER
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
    health,
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
    webhook,
)
from remediator.web.browser_checks import BrowserChecks
from remediator.web.error_pages import Handlers
from remediator.web.oidc import OidcClient
from remediator.web.refusals import Refusals
from remediator.web.shared_work import SharedWork
from remediator.web.site import HERE, Site
from remediator.web.url_prefix import prefix_of, with_prefix, without_prefix

WEBHOOK = "/api/v1/alerts"
"""Path of the webhook of Alertmanager; those of further sources are below it."""

_NAME = itemgetter(0)
_SENT_BY_PAGES = frozenset((b"origin", b"sec-fetch-site"))
"""Headers that browsers add to what a page posts. Programs such as Alertmanager send neither."""


class _Application(Starlette):
    """Starlette with a fast path for POST to the webhook endpoint.

    In Starlette's middleware and router, a notification spends a third of its time (``bench/ingest``). Other methods
    take the usual path and get status 405 there. So does what a web page sends, for the checks of ``Host`` and
    ``Origin``: a browser may know the password of Basic authentication.
    """

    def __init__(
        self,
        config: Config,
        fast_routes: Mapping[str, ASGIApp],
        routes: Sequence[BaseRoute],
        exception_handlers: Handlers,
    ) -> None:
        super().__init__(routes=routes, exception_handlers=exception_handlers)
        self._fast_routes = fast_routes
        self._prefix = prefix_of(config.public_url)
        self._checked = BrowserChecks(super().__call__, config.public_url, config.access.hosts, config.https)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope = without_prefix(scope, self._prefix)
        is_post = scope["type"] == "http" and scope["method"] == "POST"
        fast = self._fast_routes.get(scope["path"]) if is_post else None
        if fast is not None and _SENT_BY_PAGES.isdisjoint(map(_NAME, scope["headers"])):
            await fast(scope, receive, send)
        else:
            await self._checked(scope, receive, with_prefix(send, self._prefix))


def webhook_paths(source: str) -> tuple[str, str]:
    """Return the paths of the webhook of a source.

    With and without a slash at the end, never a redirect: Alertmanager would follow a redirect with GET.
    """
    path = WEBHOOK if source == ALERTMANAGER else f"{WEBHOOK}/{source}"
    return path, f"{path}/"


def _webhooks(service: Service) -> dict[str, ASGIApp]:
    """Return the endpoint of each source, by path."""
    if service.role == "work":
        return {}
    refusals = Refusals(service.context.store, service.context.actor)
    found: dict[str, ASGIApp] = {}
    for name, source in service.worker.ingest.sources.items():
        settings = service.config.sources.get(name, service.config.webhook)
        endpoint = webhook.Webhook(
            service.context.store,
            service.access,
            settings.max_body,
            service.health,
            service.metrics,
            refusals,
            source,
            service.context.clock,
        )
        found |= dict.fromkeys(webhook_paths(name), endpoint)
    return found


def application(service: Service) -> Starlette:
    """Return the ASGI application of a running service."""
    fast_routes = _webhooks(service)
    site, tests = Site(service), playbook_pages.PlaybookTests()
    app = _Application(
        service.config,
        fast_routes,
        [
            *(Route(path, handler, methods=["POST"]) for path, handler in fast_routes.items()),
            Route("/livez", health.live),
            Route("/readyz", health.ready(service)),
            Route("/healthz", partial(health.healthy, service)),
            Route("/metrics", partial(health.metrics, service)),
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
        error_pages.handlers(site),
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
