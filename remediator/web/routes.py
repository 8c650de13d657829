"""Every path that the service answers."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.routing import Route

from remediator.service import Service
from remediator.web import health, runs, webhook


def application(service: Service) -> Starlette:
    """The ASGI application of a running service."""
    alerts = webhook.Webhook(
        service.engine.store, service.credentials, service.config.webhook.max_body, service.metrics
    )
    # both spellings, never a redirect: Alertmanager would follow it with a GET
    door = [Route(path, alerts, methods=["POST"]) for path in ("/api/v1/alerts", "/api/v1/alerts/")]
    app = Starlette(
        routes=[
            *(door if service.role != "work" else ()),
            Route("/api/v1/runs", runs.listing(service)),
            Route("/api/v1/runs/{run_id}", runs.one(service)),
            Route("/livez", health.live),
            Route("/readyz", health.ready(service)),
            Route("/metrics", health.metrics(service)),
        ]
    )
    app.router.redirect_slashes = False
    return app
