"""Find unreachable servers right after the start, before an incident needs them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from remediator.errors import RemediatorError
from remediator.extensions.clientset import ClientSet
from remediator.extensions.notifiers.base import Notifier
from remediator.playbooks.inventory import Inventory

log: Any = structlog.get_logger("remediator.runtime.reachability")

TIMEOUT = 10.0
"""Seconds for one server."""
_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Unreachable:
    """A server that cannot be reached."""

    kind: str
    """alertmanager, prometheus, platform or channel."""
    name: str
    reason: str


async def find_unreachable(
    clients: ClientSet, inventory: Inventory, channels: Mapping[str, Notifier]
) -> list[Unreachable]:
    """Ask each source of alerts, Prometheus, each platform for each service, and the server of each channel.

    Nothing is changed and no message is sent.
    """
    room = asyncio.Semaphore(_AT_ONCE)

    async def ask(kind: str, name: str, question: Awaitable[object]) -> Unreachable | None:
        try:
            async with room, asyncio.timeout(TIMEOUT):
                await question
        except TimeoutError:
            return Unreachable(kind, name, f"no answer within {TIMEOUT:g} s")
        except (RemediatorError, OSError) as error:
            return Unreachable(kind, name, str(error) or type(error).__name__)
        return None

    unconfigured = []
    questions = [ask("alertmanager", peer.url, peer.status()) for peer in clients.alertmanagers]
    for source, peers in clients.sources.items():
        questions += [ask("source", f"{source} {peer.url}", peer.alerts()) for peer in peers]
    if clients.prometheus is not None:
        questions.append(ask("prometheus", clients.prometheus.url, clients.prometheus.version()))
    for name, service in inventory.services.items():
        platform = clients.platforms.get(service.platform.kind)
        if platform is None:
            text = f"the platform {service.platform.kind!r} is not configured here"
            unconfigured.append(Unreachable("platform", name, text))
        else:
            questions.append(ask("platform", name, platform.status(service)))
    questions += [ask("channel", name, _connect(channel)) for name, channel in channels.items()]
    return unconfigured + [found for found in await asyncio.gather(*questions) if found is not None]


async def _connect(channel: Notifier) -> None:
    """Open a connection to the server of a channel and close it."""
    address = channel.address
    if address is None:
        return
    _, writer = await asyncio.open_connection(*address)
    writer.close()


async def report_unreachable(clients: ClientSet, inventory: Inventory, channels: Mapping[str, Notifier]) -> None:
    """Log each server that cannot be reached, once, at the start of the service."""
    found = await find_unreachable(clients, inventory, channels)
    for item in found:
        log.warning("cannot be reached", what=item.kind, name=item.name, reason=item.reason)
    if not found:
        log.info("all servers can be reached", services=len(inventory.services), channels=sorted(channels))
