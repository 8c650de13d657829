"""The addresses of endpoints of the inventory, in the form of alert labels."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Protocol
from urllib.parse import urlsplit

from remediator.clients.endpoints import RedisEndpoint
from remediator.clients.postgres.settings import PostgresEndpoint


class HasUrl(Protocol):
    """The HTTP endpoint of a service."""

    @property
    def url(self) -> str: ...


_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


def fixed_addresses(endpoints: Iterable[RedisEndpoint | PostgresEndpoint | HasUrl]) -> tuple[set[str], set[str]]:
    """Return the fixed hosts and addresses of endpoints: Sentinels may name another address later."""
    found: set[tuple[str, int | None]] = set()
    for each in endpoints:
        if isinstance(each, PostgresEndpoint):
            if each.socket is None:
                found.add((each.host.lower(), each.port))
        elif isinstance(each, RedisEndpoint):
            if each.sentinel is None and each.socket is None:
                found.add((each.host.lower(), each.port))
        else:
            host, url_port = _host_and_port(each.url)
            if host:
                found.add((host, url_port))
    found |= {(other, port) for host, port in found if host in _LOOPBACK for other in _LOOPBACK}
    return {host for host, _ in found}, {_address(host, port) for host, port in found}


@lru_cache(maxsize=4096)  # a storm compares every alert with these addresses
def _host_and_port(url: str) -> tuple[str | None, int | None]:
    split = urlsplit(url)
    return split.hostname, split.port


def _address(host: str, port: int | None) -> str:
    """Return an address as Prometheus writes it: an IPv6 address has brackets."""
    shown = f"[{host}]" if ":" in host else host
    return shown if port is None else f"{shown}:{port}"
