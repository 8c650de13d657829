"""Log and measure every request, including failed ones."""

import logging
import time
from urllib.parse import quote

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.logs import fields
from app.metrics import Metrics

log = logging.getLogger("app.access")
QUIET = frozenset({"/livez", "/readyz", "/metrics"})  # requested every few seconds, so logged at DEBUG


class Access:
    """The outermost middleware. It also sees requests that fail or match no route."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        begin = time.perf_counter()
        start: Message = {"status": 500, "headers": []}  # the server's answer if the app raises an exception

        async def watched(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start":
                start = message
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            self._record(scope, start, time.perf_counter() - begin)

    def _record(self, scope: Scope, start: Message, seconds: float) -> None:
        route, status = _template(scope), start["status"]
        self._metrics.request(scope["method"], route, status, seconds)
        level = logging.DEBUG if route in QUIET else logging.ERROR if status >= 500 else logging.INFO
        if log.isEnabledFor(level):
            headers = Headers(raw=start["headers"])
            more = fields(
                status=status,
                duration_ms=round(seconds * 1000, 1),
                route=route,
                cache=headers.get("x-cache"),
                degraded=headers.get("x-degraded"),
                user=scope.get("state", {}).get("user"),
            )
            log.log(level, "%s %s", scope["method"], quote(scope["path"]), extra=more)


def _template(scope: Scope) -> str:
    """Return the route's template, or `unmatched`: unknown paths must not become labels, their number is unbounded."""
    return getattr(scope.get("route"), "path", "unmatched")
