"""Requests to the few addresses that the settings allow by name. The name of a host is resolved once, and that address
is what is connected to; addresses of this host, its network and its cloud have to be allowed in so many words."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from remediator.clients.endpoints import Endpoint, HttpAuth, TlsSettings, checked_url
from remediator.clients.http import Answer, HttpClient
from remediator.core.types import PositiveDuration
from remediator.errors import Refused, Unreachable

MAX_ANSWER = 64 * 1024


class AllowedRequest(HttpAuth):
    """One request that playbooks may make, by its name. Nothing of it can come from an alert but values in its body."""

    url: str = Field(description="http:// or https://, with the whole path; no query.")
    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"] = Field(default="POST", description="The method.")
    idempotent: bool = Field(default=False, description="Whether doing it twice is the same as once.")
    fields: tuple[str, ...] = Field(default=(), description="Names of the values that a playbook may send, as JSON.")
    private: bool = Field(default=False, description="Allow addresses of this host and of private networks.")
    tls: TlsSettings = Field(default=TlsSettings(), description="Who is believed, and who we are.")
    timeout: PositiveDuration = Field(default=timedelta(seconds=10), description="For the whole call.")

    @field_validator("url")
    @classmethod
    def _web(cls, url: str) -> str:
        if not url.startswith(("http://", "https://")):
            raise ValueError("must begin with http:// or https://")
        return checked_url(url)


async def request(allowed: AllowedRequest, body: Any) -> Answer:
    """Make it, once. Redirects are not followed; a long answer is cut.

    Raises:
        Unreachable: nothing was sent: the name does not resolve, or nobody is there.
        Refused: the address is not one that may be asked, or the answer is no.
        TimedOut: whether it was done is unknown.
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
    timeout: timedelta,  # noqa: ASYNC109 - of each call, as the client bounds it
    *,
    private: bool,
    max_bytes: int = MAX_ANSWER,
) -> AsyncIterator[HttpClient]:
    """A client of the one address that the url's host resolves to now, under the host's name.

    Raises:
        Unreachable: the name does not resolve.
        Refused: the address is not one that may be asked.
    """
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    address = await _resolved(str(parts.hostname), port, private=private)
    shown = f"[{address}]" if ":" in address else address
    named = tls.model_copy(update={"server_name": tls.server_name or parts.hostname})
    endpoint = Endpoint(
        url=f"{parts.scheme}://{shown}:{port}{parts.path}",
        tls=named if parts.scheme == "https" else TlsSettings(),
        timeout=timeout,
        **auth.model_copy(update={"headers": {**auth.headers, "Host": parts.netloc}}).model_dump(),
    )
    client = HttpClient(endpoint, max_bytes=max_bytes)
    try:
        yield client
    finally:
        await client.aclose()


async def _resolved(host: str, port: int, *, private: bool) -> str:
    """One address of a host; all of them have to be allowed, so that the choice among them means nothing."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise Unreachable(f"{host} does not resolve: {error.strerror or error}") from None
    addresses = [str(item[4][0]) for item in found]
    for address in addresses:
        if (why := forbidden(address, private=private)) is not None:
            raise Refused(f"{host} is {address}, which is {why}; nothing was sent")
    return addresses[0]


def forbidden(address: str, *, private: bool) -> str | None:
    """Why an address may not be asked; None if it may."""
    found = _meant(ipaddress.ip_address(address.partition("%")[0]))
    if found.is_link_local or found.is_multicast or found.is_unspecified:
        return "link-local (where clouds keep their credentials), multicast or nobody's"
    if not private and not found.is_global:
        return "this host or a private network, and the settings do not say private: true"
    return None


_TRANSLATED = ipaddress.ip_network("64:ff9b::/96")


def _meant(found: ipaddress.IPv4Address | ipaddress.IPv6Address) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """The IPv4 address that an IPv6 address leads to, where it is one in disguise (mapped, 6to4, NAT64)."""
    if isinstance(found, ipaddress.IPv4Address):
        return found
    translated = ipaddress.IPv4Address(int(found) & 0xFFFF_FFFF) if found in _TRANSLATED else None
    return found.ipv4_mapped or found.sixtofour or translated or found
