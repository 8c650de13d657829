"""The endpoints ``/livez`` (serves requests), ``/readyz`` (can receive notifications), ``/healthz`` (nothing is
degraded) and ``/metrics``.
"""

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
from remediator.web.shared_work import SharedWork

Handler = Callable[[Request], Awaitable[Response]]

PROBE_LIFE = 0.5
"""Seconds for which an answer of the readiness probe is used again."""
STORE_TIMEOUT = 3.0
"""Seconds to wait for the store. A store that hangs must not make the probe hang."""


async def live(request: Request) -> Response:
    """Answer that the process serves requests. The store is not read."""
    return PlainTextResponse("ok\n")


def ready(service: Service) -> Handler:
    """Return the readiness probe: 200 if notifications can be acknowledged and are processed.

    The probe does the steps of an intake, and rolls them back: it adds a notification, reads the inbox and the head of
    the log.
    """
    store, replica = service.context.store, service.context.replica

    def heartbeat(tx: Tx) -> None:
        replicas.touch(tx, replica)  # committed and fsynced, as a notification is

    def take_in(tx: Tx) -> None:
        audit.get_head(tx.connection)  # the head of the log is needed for every write
        inbox.add(tx, "readiness", b"{}")
        inbox.oldest_pending(tx.connection)
        raise _TakenBack

    async def probe() -> tuple[dict[str, object], int]:
        try:
            async with asyncio.timeout(STORE_TIMEOUT):
                await asyncio.to_thread(store.require_free_space)
                with suppress(_TakenBack):
                    await store.write(take_in)
                await store.write(heartbeat)
        except StoreError as error:
            return {"ready": False, "store": str(error)}, 503
        except TimeoutError:
            return {"ready": False, "store": f"no answer within {STORE_TIMEOUT:g} s"}, 503
        return {"ready": True, "store": store.name}, 200

    shared = SharedWork[tuple[dict[str, object], int]]("readiness", PROBE_LIFE)

    async def get(request: Request) -> Response:
        if problem := service.health.intake_problem():
            return JSONResponse({"ready": False, "intake": problem}, 503)
        return JSONResponse(*await shared.get("", probe))  # every client may send probes, and each probe is a write

    return get


class _TakenBack(Exception):
    """The probe works and leaves nothing behind."""


async def healthy(service: Service, request: Request) -> Response:
    """Answer the health endpoint: 503 with the names of degraded parts. It needs no sign-in, so it gives no details.

    A degraded service heals: do not restart it for this, and do not take it out of a load balancer.
    """
    problems = service.health.problems()
    body = {"healthy": not problems, "degraded": sorted(problems)}
    return JSONResponse(body, 503 if problems else 200)


async def metrics(service: Service, request: Request) -> Response:
    """Answer ``/metrics``. Gauges are read from the store for each scrape."""

    def set_gauges(connection: Connection) -> None:
        gauges = service.metrics
        gauges.open_runs.set(len(runs.list_page(connection, 10_000, only=runs.OPEN_ONLY)))
        gauges.waiting.set(inbox.count_pending(connection))
        gauges.audit_entries.set(audit.get_head(connection).seq)
        last_seen = key_values.get(connection, ingest.WATCHDOG)
        if last_seen is not None:
            gauges.watchdog.set(last_seen.at.timestamp())

    # without the store, the counters are still useful; /readyz reports the store
    with suppress(StoreError, TimeoutError):
        async with asyncio.timeout(STORE_TIMEOUT):
            await service.context.store.view(set_gauges)
    return Response(service.metrics.render(), media_type="text/plain; version=0.0.4; charset=utf-8")
