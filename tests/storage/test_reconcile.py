"""A resolved notification that is never sent (a restart, a silence, no data): an alert that Alertmanager no longer has
is over."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import timedelta

import pytest
from sqlalchemy import Connection, func, select

from remediator.clients.alertmanager.client import Alertmanager, FiringAlert
from remediator.clients.endpoints import Endpoint
from remediator.pipeline.ingest import IngestSettings, process_inbox
from remediator.pipeline.match import Index
from remediator.pipeline.receive import receive
from remediator.runtime.reconcile import ReconcileSettings, reconcile
from remediator.storage import Store
from remediator.storage.schema import episodes
from tests.storage.test_intake import context_on
from tests.support.servers.alertmanager import Alertmanager as Server

ALERT = {
    "status": "firing",
    "labels": {"alertname": "Forgotten"},
    "startsAt": "2026-01-01T00:00:00Z",
    "endsAt": "0001-01-01T00:00:00Z",
}


@pytest.mark.promise(2)
async def test_an_alert_absent_from_long_running_peers_has_ended(
    store: Store, connection: Connection, alertmanager: Server
) -> None:
    """A peer that started recently proves nothing; three answers of an older peer end the episode."""
    context, intake = context_on(store), IngestSettings(resolve_grace=timedelta(hours=1))
    client = Alertmanager(Endpoint(url=alertmanager.url))

    async def looks(young: timedelta, times: int) -> str:
        settings = ReconcileSettings((client,), every=timedelta(0), min_uptime=young)
        for _ in range(times):
            await reconcile(context, intake, settings)
            await process_inbox(context, Index((), "Watchdog"), intake)
        return str(connection.execute(select(episodes.c.status)).scalar_one())

    try:
        await receive(store, json.dumps({"version": "4", "receiver": "r", "alerts": [ALERT]}).encode())
        await process_inbox(context, Index((), "Watchdog"), intake)
        assert await looks(timedelta(hours=1), 5) == "firing"
        assert await looks(timedelta(0), 2) == "firing"
        alertmanager.stop()
        assert await looks(timedelta(0), 3) == "firing", "nobody answers, so nobody says that it is over"
        alertmanager.start()
        assert await looks(timedelta(0), 1) == "resolved"
    finally:
        await client.aclose()


@pytest.mark.promise(2)
@pytest.mark.parametrize("folded", ["before it is written down", "after"])
async def test_a_notification_during_the_request_is_newer_than_the_answer(
    store: Store, connection: Connection, alertmanager: Server, folded: str
) -> None:
    """The alert resolves while the answer is processed: the episode is not opened again and its remedy not marked as
    ineffective.

    The next reconcile turn finds the truth.
    """
    context, intake = context_on(store), IngestSettings(resolve_grace=timedelta(hours=1))
    client = Alertmanager(Endpoint(url=alertmanager.url))
    over = {**ALERT, "status": "resolved", "endsAt": "2026-01-01T00:01:00Z"}

    async def tell(alert: object) -> None:
        await receive(store, json.dumps({"version": "4", "receiver": "default", "alerts": [alert]}).encode())

    async def take_all() -> None:
        while await process_inbox(context, Index((), "Watchdog"), intake) >= 0:
            pass

    class Late(Alertmanager):
        async def alerts(self, filters: Iterable[str] = (), **which: bool) -> list[FiringAlert]:
            held = await super().alerts(filters, **which)
            await tell(over)
            if folded != "after":
                await take_all()
            return held

    late = Late(Endpoint(url=alertmanager.url))
    settings = ReconcileSettings((late,), every=timedelta(0), receiver="default")
    try:
        alertmanager.fire(alertname="Forgotten")
        await tell(ALERT)
        await take_all()
        assert await reconcile(context, intake, settings) == (0 if folded == "after" else 1)
        await take_all()
        [found] = connection.execute(select(episodes.c.status, episodes.c.flaps)).all()
        assert tuple(found) == ("resolved", 0)
        await reconcile(context, intake, ReconcileSettings((client,), every=timedelta(0), receiver="default"))
        await take_all()
        [status] = connection.execute(select(episodes.c.status)).scalars()
        assert status == "firing", "it still holds it: the first look was too early to know, the second is not"
    finally:
        await client.aclose()
        await late.aclose()


@pytest.mark.promise(2)
async def test_the_oldest_of_many_alerts_is_reconciled(
    store: Store, connection: Connection, alertmanager: Server
) -> None:
    """After a storm without resolved notifications, no alert stays firing forever."""
    context, intake = context_on(store), IngestSettings(resolve_grace=timedelta(hours=1))
    client = Alertmanager(Endpoint(url=alertmanager.url))
    settings = ReconcileSettings((client,), every=timedelta(0), min_uptime=timedelta(0))
    storm = [{**ALERT, "labels": {"alertname": "Forgotten", "n": str(number)}} for number in range(1100)]
    still = select(func.count()).select_from(episodes).where(episodes.c.status == "firing")

    async def take_all() -> None:
        while await process_inbox(context, Index((), "Watchdog"), intake) >= 0:
            pass

    try:
        await receive(store, json.dumps({"version": "4", "receiver": "r", "alerts": storm}).encode())
        await take_all()
        assert connection.execute(still).scalar_one() == len(storm)
        for _ in range(settings.max_absences):
            await reconcile(context, intake, settings)
        await take_all()
        assert connection.execute(still).scalar_one() == 0
    finally:
        await client.aclose()
