"""The heartbeat to an external monitor, a dead man's switch: when it stops arriving, the monitor calls a person.

It is sent only while this replica works: the store can be read, and another loop keeps the replica's record current. It
is outside of every run: a monitor that does not answer changes nothing but the log and a metric.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing
from datetime import datetime, timedelta

import structlog

from remediator.clients.endpoints import read_secret
from remediator.clients.webhook import Hook, HookRefused, split
from remediator.config import Heartbeat
from remediator.core import progress
from remediator.errors import ClientError, ConfigurationError, StoreError
from remediator.pipeline.context import PipelineContext
from remediator.storage.repositories import replicas

log = structlog.get_logger()
MAX_AGE = timedelta(minutes=1)
"""How old the record of this replica may be: maintenance writes it every few seconds."""
_SECONDS = 10.0


async def run_heartbeat_loop(
    context: PipelineContext, settings: Heartbeat, accepted: Callable[[datetime], None]
) -> None:
    """Send a heartbeat in each interval; call ``accepted`` with the time of each accepted heartbeat."""
    while True:
        if await send_heartbeat(context, settings):
            accepted(context.clock.now())
        progress.report(settings.interval.total_seconds())
        await context.clock.sleep(settings.interval.total_seconds())


async def send_heartbeat(context: PipelineContext, settings: Heartbeat) -> bool:
    """Send one heartbeat if this replica works. Return whether the monitor accepted it."""
    try:
        alive = await context.store.read(
            lambda connection: replicas.list_alive(connection, context.clock.now() - MAX_AGE)
        )
    except StoreError as error:
        log.warning("heartbeat not sent, store unavailable", error=str(error))
        return False
    if context.replica not in {replica.id for replica in alive}:
        log.warning("heartbeat not sent, this replica makes no progress")
        return False
    try:
        address = settings.url or read_secret(settings.url_file)  # type: ignore[arg-type] # one of them is set
        base, path = split(address, "heartbeat")
        async with aclosing(Hook("heartbeat", base, _SECONDS)) as hook:
            await hook.call("POST", path, {"replica": context.replica})
    except (ClientError, HookRefused, ConfigurationError, OSError, ValueError) as error:
        log.warning("heartbeat not accepted", error=str(error))
        return False
    return True
