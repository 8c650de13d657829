"""``tcp.connect``: Check that the port of a service accepts connections, and nothing else."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta
from enum import StrEnum
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field

from remediator.core.clock import format_duration
from remediator.core.types import Duration
from remediator.extensions.checks.base import Check, CheckAnswer, Evidence
from remediator.extensions.parameters import Parameters
from remediator.playbooks.facts import Fact
from remediator.playbooks.inventory import Service


class TcpConnectParameters(Parameters):
    """Parameters of ``tcp.connect``."""

    endpoint: Literal["http", "postgres", "redis"] = Field(
        default="http", description="Name of the address in the inventory."
    )
    timeout: Duration = Field(default=timedelta(seconds=2), description="Timeout of the connection.")


class TcpAnswer(StrEnum):
    """The answer of a host to a connection."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    """Nothing listens on the port."""
    SILENT = "silent"
    """No answer in time."""
    UNREACHABLE = "unreachable"
    """The name is unknown, or there is no route to the host."""


class TcpConnect(Check):
    """Open a TCP connection to a service and close it."""

    name = "tcp.connect"
    Parameters = TcpConnectParameters
    facts = (
        Fact("host", "string", "Host that the check connected to."),
        Fact("port", "integer", "Port that the check connected to."),
        Fact(
            "answer",
            "string",
            "Answer of the host. It is silent if packets are dropped, or if the process accepts nothing and its queue "
            "is full.",
            values=tuple(TcpAnswer),
        ),
    )

    async def observe(self, service: Service, parameters: TcpConnectParameters) -> Evidence:
        address = _address(service, parameters.endpoint)
        if address is None:
            return Evidence(
                CheckAnswer.UNKNOWN,
                f"service {service.name!r} has no TCP address under {parameters.endpoint!r} in the inventory",
            )
        host, port = address
        facts = {"host": host, "port": port}
        try:
            async with asyncio.timeout(parameters.timeout.total_seconds()):
                _, writer = await asyncio.open_connection(host, port)
        except TimeoutError:
            return Evidence(
                CheckAnswer.FAIL,
                f"{host}:{port} did not accept the connection within {format_duration(parameters.timeout)}",
                {**facts, "answer": TcpAnswer.SILENT.value},
            )
        except OSError as error:
            refused = isinstance(error, ConnectionRefusedError)
            return Evidence(
                CheckAnswer.FAIL,
                f"{host}:{port} did not accept the connection: {error.strerror or error}",
                {**facts, "answer": (TcpAnswer.REFUSED if refused else TcpAnswer.UNREACHABLE).value},
            )
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
        return Evidence(
            CheckAnswer.OK, f"{host}:{port} accepts connections", {**facts, "answer": TcpAnswer.ACCEPTED.value}
        )


def _address(service: Service, endpoint: str) -> tuple[str, int] | None:
    if endpoint == "redis":
        return (
            None
            if service.redis is None or service.redis.socket or service.redis.sentinel
            else (service.redis.host, service.redis.port)
        )
    if endpoint == "postgres":
        is_tcp = service.postgres is not None and service.postgres.socket is None
        return (service.postgres.host, service.postgres.port) if is_tcp and service.postgres is not None else None
    if service.http is None or service.http.url.startswith("unix:"):
        return None
    parts = urlsplit(service.http.url)
    return str(parts.hostname), parts.port or (443 if parts.scheme == "https" else 80)
