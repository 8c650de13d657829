"""``/livez``, ``/readyz`` and ``/metrics``."""

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
PATIENCE = 3.0
"""Seconds that a probe waits for the store; one that hangs must not make the probe hang."""


async def live(request: Request) -> Response:
    """The process serves; says nothing of its store."""
    return PlainTextResponse("ok\n")


def ready(service: Service) -> Handler:
    """It can acknowledge notifications: the store can be written, which only writing tells."""
    store, replica = service.context.store, service.context.replica

    async def get(request: Request) -> Response:
        try:
            async with asyncio.timeout(PATIENCE):
                await asyncio.to_thread(store.require_room)
                await store.write(lambda tx: _probe(tx, replica))
        except StoreError as error:
            return JSONResponse({"ready": False, "store": str(error)}, 503)
        except TimeoutError:
            text = f"the store has not answered for {PATIENCE:g} s"
            return JSONResponse({"ready": False, "store": text}, 503)
        return JSONResponse({"ready": True, "store": store.name})

    return get


def _probe(tx: Tx, replica: str) -> None:
    audit.head(tx.connection)  # what every write stands on
    replicas.seen(tx, replica)


def metrics(service: Service) -> Handler:
    """The exposition text, with the gauges read from the store."""

    async def get(request: Request) -> Response:
        # counters are worth having even then; readiness tells of the store
        with suppress(StoreError, TimeoutError):
            async with asyncio.timeout(PATIENCE):
                await service.context.store.read(lambda connection: _gauges(connection, service))
        return Response(service.metrics.render(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return get


def _gauges(connection: Connection, service: Service) -> None:
    gauges = service.metrics
    gauges.open_runs.set(len(runs.page(connection, 10_000, open_only=True)))
    gauges.waiting.set(inbox.waiting_count(connection))
    gauges.audit_entries.set(audit.head(connection).seq)
    heard = key_values.get(connection, ingest.WATCHDOG)
    if heard is not None:
        gauges.watchdog.set(heard.at.timestamp())
