"""The proxy for outgoing HTTP, set once when the service is composed. Variables of the environment are not read."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from remediator.clients.endpoints import read_secret
from remediator.core.types import SecretFile
from remediator.core.urls import UrlOrFile, checked_url
from remediator.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Egress:
    """How HTTP requests leave this network.

    Args:
        proxy: URL of the proxy; empty if requests are sent directly.
        no_proxy: hosts that are reached directly, as in the variable ``NO_PROXY``: names (with all names below them),
            addresses, networks, and ``*`` for all. Loopback addresses are always reached directly.
    """

    proxy: str = ""
    no_proxy: Sequence[str] = ()

    def proxy_for(self, url: str) -> str | None:
        """Return the proxy for a URL; None if it is reached directly."""
        host = (urlsplit(url).hostname or "").rstrip(".").lower()
        if not self.proxy or host == "localhost" or any(_matches(host, item) for item in self.no_proxy):
            return None
        address = _address(host)
        return None if address is not None and address.is_loopback else self.proxy


class OutgoingProxy(UrlOrFile):
    """The proxy for HTTP requests to other servers: chats, the identity provider, GitHub and everything else."""

    url: str = Field(default="", description="URL of the proxy.")
    url_file: SecretFile | None = Field(
        default=None, description="File with the URL of the proxy, if the URL contains a password."
    )
    no_proxy: tuple[str, ...] = Field(
        default=(),
        description="Hosts that are reached directly, as in NO_PROXY: names with all names below them, addresses and "
        "networks. Loopback addresses are always reached directly.",
    )

    @model_validator(mode="after")
    def _url_of_a_server(self) -> OutgoingProxy:
        if self.url:
            checked_url(self.url)
        return self

    def egress(self) -> Egress:
        """Return the settings for the HTTP clients.

        Raises:
            ConfigurationError: the file of the URL cannot be read.
        """
        try:
            url = self.url if self.url_file is None else read_secret(self.url_file)
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"outgoing_proxy.url_file: cannot read {str(self.url_file)!r}: {error}") from None
        return Egress(url, self.no_proxy)


_current = Egress()


def configure(egress: Egress) -> None:
    """Use these settings for all HTTP clients that are created from now on."""
    global _current  # the composition root sets it before it creates the first client
    _current = egress


def use(settings: OutgoingProxy | None) -> None:
    """Use the proxy of the settings for all HTTP clients that are created from now on.

    Raises:
        ConfigurationError: the file of its URL cannot be read.
    """
    configure(Egress() if settings is None else settings.egress())


def proxy_for(url: str) -> str | None:
    """Return the proxy for a URL; None if it is reached directly."""
    return _current.proxy_for(url)


def _matches(host: str, item: str) -> bool:
    item = item.strip().rstrip(".").lower()
    if item == "*":
        return True
    address = _address(host)
    if address is not None:
        try:
            return address in ipaddress.ip_network(item, strict=False)
        except ValueError:
            return False
    name = item.removeprefix("*").lstrip(".")
    return bool(name) and (host == name or host.endswith(f".{name}"))


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
