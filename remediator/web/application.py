"""The ASGI application: the webhooks and the probes, which are served at once, and all other paths behind them.

Loading the pages and the API takes a tenth of the start. They are loaded when the port is open and the waiting
notifications are received, or with the first request for a page or the API.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from operator import itemgetter

from starlette.applications import Starlette
from starlette.routing import request_response
from starlette.types import ASGIApp, Receive, Scope, Send

from remediator.core.alert import ALERTMANAGER
from remediator.service import Service
from remediator.web import health
from remediator.web.browser_checks import BrowserChecks
from remediator.web.refusals import Refusals
from remediator.web.url_prefix import prefix_of, with_prefix, without_prefix
from remediator.web.webhook import Webhook

WEBHOOK = "/api/v1/alerts"
"""Path of the webhook of Alertmanager; the webhooks of further sources are below it."""

_NAME = itemgetter(0)
_SENT_BY_PAGES = frozenset((b"origin", b"sec-fetch-site"))
"""Headers that browsers add to the POST requests of a page. Programs such as Alertmanager send neither."""


class Application:
    """The ASGI application of a running service.

    A POST to a webhook has a separate code path: in Starlette's middleware and router, a notification spends a third of
    its time (``bench/ingest``). Other methods take the usual path and get status 405 there. Requests of web pages take
    the usual path too, for the checks of ``Host`` and ``Origin``: a browser may know the password of Basic
    authentication.
    """

    def __init__(self, service: Service) -> None:
        config = service.config
        self._service = service
        self._webhooks = _webhooks(service)
        self._probes: dict[str, health.Handler] = {
            "/livez": health.live,
            "/readyz": health.ready(service),
            "/healthz": partial(health.healthy, service),
            "/metrics": partial(health.metrics, service),
        }
        self._quick = {path: request_response(probe) for path, probe in self._probes.items()}
        self._prefix = prefix_of(config.public_url)
        self._checked = BrowserChecks(self._route, config.public_url, config.access.hosts, config.https)
        self._console: Starlette | None = None
        self._loading = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        scope = without_prefix(scope, self._prefix)
        is_post = scope["type"] == "http" and scope["method"] == "POST"
        fast = self._webhooks.get(scope["path"]) if is_post else None
        if fast is not None and _SENT_BY_PAGES.isdisjoint(map(_NAME, scope["headers"])):
            await fast(scope, receive, send)
        else:
            await self._checked(scope, receive, with_prefix(send, self._prefix))

    async def _route(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_get = scope["type"] == "http" and scope["method"] in ("GET", "HEAD")
        probe = self._quick.get(scope["path"]) if is_get else None
        await (probe or await self.console())(scope, receive, send)

    async def console(self) -> Starlette:
        """Return the application with every path. The first call loads it, so that later requests do not wait."""
        async with self._loading:  # requests that arrive during the import wait for it
            loaded = self._console
            if loaded is None:
                # in a thread: notifications are received while it is imported
                loaded = await asyncio.to_thread(_load, self._service, self._webhooks, self._probes)
                self._console = loaded
        return loaded


def _load(service: Service, webhooks: Mapping[str, ASGIApp], probes: Mapping[str, health.Handler]) -> Starlette:
    from remediator.web.routes import console  # noqa: PLC0415 - see the docstring of this module

    return console(service, webhooks, probes)


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
        endpoint = Webhook(
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
