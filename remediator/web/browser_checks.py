"""Checks of every request before it is routed, because a web site may have made a browser send it.

A page of any web site can make a browser send requests to this service, also to a loopback address. DNS rebinding can
make the answers readable for that page. A network address is therefore not an identity:

- A request must name this service in ``Host``; otherwise the answer is 421. Allowed are an IP address, a name that
  public DNS does not have, the host of ``public_url``, and the names in ``access.hosts``.
- A request that changes something must not come from another site, according to ``Sec-Fetch-Site`` and ``Origin``.
  Otherwise the answer is 403. Programs send neither.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?")
_SAFE = ("GET", "HEAD", "OPTIONS")
_PROBES = ("/livez", "/readyz")
_PRIVATE_SUFFIXES = (".svc", ".svc.cluster.local", ".internal", ".local", ".localhost", ".home.arpa", ".lan")
"""Names that public DNS cannot answer, so that no web site can point them at this service."""
_HSTS = (b"strict-transport-security", b"max-age=31536000")
# With "no-referrer", browsers would send "Origin: null" with the forms of our own pages.
_ALWAYS = ((b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"same-origin"))


@dataclass(frozen=True, slots=True)
class BrowserChecks:
    """The checks, in front of an application.

    Args:
        app: the application.
        public_url: base URL of the links; possibly empty.
        hosts: further names of this service.
        https: whether browsers reach the service by HTTPS only.
    """

    app: ASGIApp
    public_url: str
    hosts: Collection[str]
    https: bool

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request that must not be routed; pass all others on, and complete the headers of the answer."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        wanted = (*_ALWAYS, *((_HSTS,) if self.https else ()))

        async def complete(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = list(message.get("headers", ()))
                names = {name.lower() for name, _ in headers}
                message["headers"] = headers + [item for item in wanted if item[0] not in names]
            await send(message)

        await (self._refusal(scope) or self.app)(scope, receive, complete)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        # with two headers, a proxy and this service could read different values
        host = hosts[0] if len(hosts) == 1 else ""
        if scope["path"] not in _PROBES and not self.is_own_host(host):
            return PlainTextResponse(
                "the Host header does not name this service: set public_url or access.hosts in the settings\n", 421
            )
        if scope["method"] in _SAFE:
            return None
        site, origin = headers.get("sec-fetch-site", "none"), headers.get("origin", "")
        if site not in ("same-origin", "none") or (origin and not self._is_own_origin(origin, host)):
            return PlainTextResponse("a page of another site sent this request; nothing was changed\n", 403)
        return None

    def is_own_host(self, host: str) -> bool:
        """Return whether a ``Host`` header names this service."""
        if _HOST.fullmatch(host.strip()) is None:
            return False
        name = _host_name(host)
        if not name or name == "localhost" or "." not in name or name.endswith(_PRIVATE_SUFFIXES):
            return bool(name)
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name == _host_name(urlsplit(self.public_url).netloc) or name in self.hosts
        return True

    def _is_own_origin(self, origin: str, host: str) -> bool:
        parts = urlsplit(origin)  # the origin "null" has no host
        return bool(parts.netloc) and parts.netloc.lower() in (host.lower(), urlsplit(self.public_url).netloc.lower())


def _host_name(host: str) -> str:
    """Return the name in a ``Host`` header without its port, in lower case; an IPv6 address without brackets."""
    name = host.strip().lower()
    if name.startswith("["):
        return name[1:].partition("]")[0]
    return name.rpartition(":")[0] if name.count(":") == 1 else name
