"""The endpoints ``/livez``, ``/readyz`` and ``/metrics``."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from remediator.errors import StoreError
from remediator.pipeline import ingest
from remediator.service import Service
from remediator.storage import Tx
from remediator.storage.repositories import audit, inbox, key_values, replicas, runs

Handler = Callable[[Request], Awaitable[Response]]
STORE_TIMEOUT = 3.0
"""Seconds to wait for the store. A store that hangs must not make the probe hang."""


async def live(request: Request) -> Response:
    """Answer that the process serves requests. This does not look at the store."""
    return PlainTextResponse("ok\n")


def ready(service: Service) -> Handler:
    """Return the readiness probe: 200 if notifications can be acknowledged. It writes, since reading proves less."""
    store, replica = service.context.store, service.context.replica

    def heartbeat(tx: Tx) -> None:
        audit.get_head(tx.connection)  # every write needs the head of the log
        replicas.touch(tx, replica)

    async def get(request: Request) -> Response:
        try:
            async with asyncio.timeout(STORE_TIMEOUT):
                await asyncio.to_thread(store.require_free_space)
                await store.write(heartbeat)
        except StoreError as error:
            return JSONResponse({"ready": False, "store": str(error)}, 503)
        except TimeoutError:
            return JSONResponse({"ready": False, "store": f"no answer within {STORE_TIMEOUT:g} s"}, 503)
        return JSONResponse({"ready": True, "store": store.name})

    return get


def metrics(service: Service) -> Handler:
    """Return the handler of ``/metrics``. Gauges are read from the store for each scrape."""

    async def get(request: Request) -> Response:
        # without the store, the counters are still useful; /readyz reports the store
        with suppress(StoreError, TimeoutError):
            async with asyncio.timeout(STORE_TIMEOUT):
                await service.context.store.read(lambda connection: _set_gauges(connection, service))
        return Response(service.metrics.render(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return get


def _set_gauges(connection: Connection, service: Service) -> None:
    gauges = service.metrics
    gauges.open_runs.set(len(runs.list_page(connection, 10_000, open_only=True)))
    gauges.waiting.set(inbox.count_pending(connection))
    gauges.audit_entries.set(audit.get_head(connection).seq)
    last_seen = key_values.get(connection, ingest.WATCHDOG)
    if last_seen is not None:
        gauges.watchdog.set(last_seen.at.timestamp())
