"""Every path that the service answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from starlette.applications import Starlette
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from remediator.service import Service
from remediator.web import (
    api,
    approve,
    chart_image,
    console,
    error_pages,
    events,
    form_actions,
    health,
    signin,
    slack,
    webhook,
)
from remediator.web.error_pages import Handlers
from remediator.web.oidc import OidcClient
from remediator.web.site import HERE, Site

_DOORS = ("/api/v1/alerts", "/api/v1/alerts/")
"""Both spellings, never a redirect: Alertmanager would follow it with a GET."""


class _Application(Starlette):
    """Starlette, with a short way to the doors: through its middleware and router, a notification spends a third of
    its time (``bench/ingest``). Whatever is no POST takes the long way, and is told so there."""

    def __init__(self, doors: Mapping[str, ASGIApp], routes: Sequence[BaseRoute], when_wrong: Handlers) -> None:
        super().__init__(routes=routes, exception_handlers=when_wrong)
        self._doors = doors

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        door = self._doors.get(scope["path"]) if scope["type"] == "http" and scope["method"] == "POST" else None
        await (door or super().__call__)(scope, receive, send)


def application(service: Service) -> Starlette:
    """The ASGI application of a running service."""
    alerts = webhook.Webhook(
        service.context.store, service.credentials, service.config.webhook.max_body, service.metrics
    )
    doors = {} if service.role == "work" else dict.fromkeys(_DOORS, alerts)
    site = Site(service)
    app = _Application(
        doors,
        [
            *(Route(path, door, methods=["POST"]) for path, door in doors.items()),
            Route("/livez", health.live),
            Route("/readyz", health.ready(service)),
            Route("/metrics", health.metrics(service)),
            *api.routes(site),
            Route("/api/v1/slack/interactions", slack.interactions(site), methods=["POST"]),
            *_pages(site),
            *_signing_in(site),
            Mount("/static", StaticFiles(directory=HERE / "static")),
        ],
        error_pages.handlers(site),
    )
    app.router.redirect_slashes = False
    return app


def _pages(site: Site) -> list[BaseRoute]:
    return [
        Route("/", console.now(site)),
        Route("/runs", console.history(site)),
        Route("/runs/{run_id}", console.run(site)),
        Route("/runs/{run_id}/chart.svg", chart_image.chart(site)),
        Route("/runs/{run_id}/cancel", form_actions.cancel(site), methods=["POST"]),
        Route("/runs/{run_id}/retry", form_actions.retry(site), methods=["POST"]),
        Route("/playbooks", console.playbooks(site)),
        Route("/audit", console.log(site)),
        Route("/inventory", console.inventory(site)),
        Route("/stop", form_actions.stop(site), methods=["POST"]),
        Route("/stops/{stop_id}/release", form_actions.release(site), methods=["POST"]),
        Route("/approve/{token}", approve.by_link(site), methods=["GET", "POST"]),
        Route("/approvals/{approval_id}", approve.by_id(site), methods=["GET", "POST"]),
        Route("/events", events.events(site)),
        Route("/favicon.ico", events.favicon(site)),
    ]


def _signing_in(site: Site) -> list[BaseRoute]:
    routes: list[BaseRoute] = [
        Route("/sign-in", signin.show(site)),
        Route("/sign-in", signin.by_token(site), methods=["POST"]),
        Route("/sign-out", signin.out(site), methods=["POST"]),
    ]
    settings = site.service.config.access.oidc
    if settings is not None:
        client = OidcClient(settings, f"{site.service.config.public_url.rstrip('/')}/sign-in/oidc/back")
        routes.append(Route("/sign-in/oidc", signin.begin(site, client)))
        routes.append(Route("/sign-in/oidc/back", signin.finish(site, client)))
    return routes
