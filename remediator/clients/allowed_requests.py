"""Requests to URLs that the settings allow by name.

The host is resolved once, and the connection goes to that address. Addresses of this host, of private networks and of
the cloud's metadata service are rejected unless the settings allow them.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from datetime import timedelta
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field

from remediator.clients.declared_effects import DeclaredEffects
from remediator.clients.endpoints import Endpoint, HttpAuth, TlsSettings
from remediator.clients.http import Answer, HttpClient
from remediator.core.types import PositiveDuration
from remediator.core.urls import WebUrl
from remediator.errors import Refused, Unreachable

MAX_ANSWER = 64 * 1024


class AllowedRequest(HttpAuth, DeclaredEffects):
    """A request that playbooks may make by its name. Only values in its body can come from an alert."""

    url: WebUrl = Field(description="URL with its whole path, without a query: http://… or https://….")
    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"] = Field(default="POST", description="HTTP method.")
    fields: tuple[str, ...] = Field(default=(), description="Names of the values that a playbook may send as JSON.")
    private: bool = Field(default=False, description="Allow addresses of this host and of private networks.")
    tls: TlsSettings = Field(default=TlsSettings(), description="TLS settings.")
    timeout: PositiveDuration = Field(default=timedelta(seconds=10), description="Timeout of the whole call.")


async def request(allowed: AllowedRequest, body: Any) -> Answer:
    """Send the request once. Redirects are not followed; a long answer is cut.

    Raises:
        Unreachable: nothing was sent: the name does not resolve, or no server listens.
        Refused: the address is not allowed, or the status is not 2xx.
        TimedOut: the outcome is unknown.
    """
    parts = urlsplit(allowed.url)
    auth = HttpAuth(**allowed.model_dump(include={"basic", "token_file", "headers", "header_files"}))
    origin = f"{parts.scheme}://{parts.netloc}"
    async with connected(origin, auth, allowed.tls, allowed.timeout, private=allowed.private) as client:
        return await client.call(allowed.method, parts.path or "/", json=body or None, cut=True)


@asynccontextmanager
async def connected(
    url: str,
    auth: HttpAuth,
    tls: TlsSettings,
    timeout: timedelta,  # noqa: ASYNC109 - the timeout of each call, which the client applies
    *,
    private: bool,
    max_bytes: int = MAX_ANSWER,
) -> AsyncIterator[HttpClient]:
    """Yield a client for the address that the host resolves to now. TLS still verifies the host's name.

    Raises:
        Unreachable: the name does not resolve.
        Refused: the address is not allowed.
    """
    parts = urlsplit(url)
    host, port = str(parts.hostname), parts.port or (443 if parts.scheme == "https" else 80)
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise Unreachable(f"cannot resolve {host}: {error.strerror or error}") from None
    # all addresses of the host must be allowed, so that the choice does not matter
    addresses = [str(item[4][0]) for item in found]
    for address in addresses:
        if (reason := forbidden_reason(address, private=private)) is not None:
            raise Refused(f"{host} resolves to {address}, which is not allowed: {reason}; nothing was sent")
    address = addresses[0]
    shown = f"[{address}]" if ":" in address else address
    named = tls.model_copy(update={"server_name": tls.server_name or parts.hostname})
    endpoint = Endpoint(
        url=f"{parts.scheme}://{shown}:{port}{parts.path}",
        tls=named if parts.scheme == "https" else TlsSettings(),
        timeout=timeout,
        **auth.model_copy(update={"headers": {**auth.headers, "Host": parts.netloc}}).model_dump(),
    )
    async with aclosing(HttpClient(endpoint, max_bytes=max_bytes)) as client:
        yield client


def forbidden_reason(address: str, *, private: bool) -> str | None:
    """Return why requests to an address are not allowed, or None if they are."""
    found = _embedded_ipv4(ipaddress.ip_address(address.partition("%")[0]))
    if found in _METADATA:
        return "the metadata service of a cloud has it"
    if found.is_link_local or found.is_multicast or found.is_unspecified:
        return "it is link-local (clouds serve credentials there), multicast or unspecified"
    if not private and (not found.is_global or any(found in network for network in _NOT_GLOBAL)):
        return "it is on this host or a private network; set 'private: true' to allow it"
    return None


_METADATA = frozenset(
    map(ipaddress.ip_address, ("fd00:ec2::254", "fd20:ce::254", "100.100.100.200", "192.0.0.192", "168.63.129.16"))
)
"""Addresses of metadata services that are not link-local: AWS, Google, Alibaba, Oracle and Azure. Always rejected."""
_NOT_GLOBAL = tuple(
    map(ipaddress.ip_network, ("fec0::/10", "64:ff9b:1::/48", "::/96", "::ffff:0:0:0/96", "5f00::/16", "3fff::/20"))
)
"""Networks that are not for the Internet, although Python calls them global: site-local, local NAT64, IPv4-compatible,
IPv4-translated, SRv6, examples."""
_CONTAINS_IPV4 = tuple(map(ipaddress.ip_network, ("64:ff9b::/96", "64:ff9b:1::/48", "::/96", "::ffff:0:0:0/96")))
"""Networks whose last 32 bits are an IPv4 address: NAT64, IPv4-compatible and IPv4-translated."""


def _embedded_ipv4(
    found: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Return the IPv4 address in an IPv6 address (mapped, compatible, 6to4, Teredo, NAT64), else the address itself."""
    if isinstance(found, ipaddress.IPv4Address):
        return found
    if found.is_loopback or found.is_unspecified:
        return found
    contains = any(found in network for network in _CONTAINS_IPV4)
    last = ipaddress.IPv4Address(int(found) & 0xFFFF_FFFF) if contains else None
    teredo = None if found.teredo is None else found.teredo[1]
    return found.ipv4_mapped or found.sixtofour or teredo or last or found
