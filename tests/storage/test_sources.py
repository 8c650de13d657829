"""Alerts of several sources: each is a separate episode that only its own source can end, and none is lost."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, select

from remediator.clients.alertmanager.client import Alertmanager
from remediator.clients.endpoints import Endpoint
from remediator.core.alert import ALERTMANAGER
from remediator.extensions.sources.alertmanager import AlertmanagerSettings, AlertmanagerSource
from remediator.extensions.sources.base import Source
from remediator.extensions.sources.grafana import GrafanaSettings, GrafanaSource
from remediator.extensions.sources.json import JsonSettings, JsonSource
from remediator.pipeline.ingest import IngestSettings, process_inbox
from remediator.pipeline.match import Index
from remediator.pipeline.receive import receive
from remediator.runtime.reconcile import ReconcileSettings, reconcile
from remediator.storage import Store
from remediator.storage.repositories import key_values
from remediator.storage.schema import audit, episodes, messages
from tests.storage.test_intake import context_on
from tests.support.servers import grafana as server
from tests.support.servers.alertmanager import Alertmanager as AlertmanagerServer

LABELS = {"alertname": "RedisDown", "instance": "redis:6379"}
MAPPING = {
    "status": "body.state",
    "labels": {"alertname": "body.name", "instance": "body.instance"},
    "fingerprint": "body.id",
}
JSON = JsonSource("any", JsonSettings.model_validate({"mapping": MAPPING}))
PLAIN = {ALERTMANAGER: Source(ALERTMANAGER, None), "grafana": GrafanaSource("grafana", GrafanaSettings()), "any": JSON}
WATCHDOG = Index((), "Watchdog")


def alertmanager_body(status: str = "firing", **labels: str) -> bytes:
    alert = {"status": status, "labels": labels or LABELS, "startsAt": "2026-01-01T00:00:00Z"}
    return json.dumps({"version": "4", "receiver": "r", "alerts": [alert]}).encode()


def json_body(state: str = "firing", **more: Any) -> bytes:
    return json.dumps({"state": state, "name": "RedisDown", "instance": "redis:6379", "id": 7, **more}).encode()


def found(connection: Connection) -> dict[str, str]:
    """Return the status of the episodes by source."""
    rows = connection.execute(select(episodes.c.source, episodes.c.status).order_by(episodes.c.started_at))
    return {source: status for source, status in rows}


async def take(store: Store, settings: IngestSettings, source: str, body: bytes) -> None:
    await receive(store, body, settings.sources[source])
    while await process_inbox(context_on(store), WATCHDOG, settings) >= 0:
        pass


@pytest.mark.promise(2)
async def test_the_same_labels_from_three_sources_are_three_alerts(store: Store, connection: Connection) -> None:
    """Each alert ends by a notification of its own source; the others still fire."""
    settings = IngestSettings(sources=PLAIN, resolve_grace=timedelta(hours=1))
    await take(store, settings, ALERTMANAGER, alertmanager_body())
    await take(store, settings, "grafana", server.notification(**LABELS))
    await take(store, settings, "any", json_body())
    assert found(connection) == {"alertmanager": "firing", "grafana": "firing", "any": "firing"}

    await take(store, settings, "any", json_body("resolved", instance="another label"))
    assert found(connection) == {"alertmanager": "firing", "grafana": "firing", "any": "resolved"}
    await take(store, settings, "grafana", server.notification("resolved", **LABELS))
    assert found(connection) == {"alertmanager": "firing", "grafana": "resolved", "any": "resolved"}
    actors = connection.execute(select(audit.c.canonical).where(audit.c.kind == "episode.resolved")).scalars()
    assert [json.loads(entry)["actor"] for entry in actors] == ["any", "grafana"]


@pytest.mark.promise(1)
async def test_a_body_that_cannot_be_mapped_is_a_dead_letter(store: Store, connection: Connection) -> None:
    """The body is kept, the audit log has the reason, people are notified, and the next body is processed."""
    settings = IngestSettings(sources=PLAIN, channels=("pager",))
    await receive(store, b'{"state": "odd", "name": "A", "instance": "b", "id": 1}', JSON)
    await receive(store, b"[]", JSON)
    await take(store, settings, "any", json_body())
    assert found(connection) == {"any": "firing"}
    rejected = connection.execute(select(audit.c.canonical).where(audit.c.kind == "notification.rejected")).scalars()
    reasons = [json.loads(entry)["data"]["message"] for entry in rejected]
    assert reasons[0] == "source 'any': alert 1: mapping.status: expected firing or resolved, not 'odd'"
    assert len(reasons) == 2
    [text] = connection.execute(select(messages.c.content)).scalars()
    assert "could not be processed" in str(text) and "mapping.status" in str(text)


@pytest.mark.promise(1)
async def test_a_source_that_was_removed_from_the_settings_loses_nothing(store: Store, connection: Connection) -> None:
    """An earlier accepted body becomes a dead letter that names the source."""
    await receive(store, json_body(), JSON)
    await take(store, IngestSettings(), ALERTMANAGER, alertmanager_body())
    assert found(connection) == {"alertmanager": "firing"}
    [rejected] = connection.execute(select(audit.c.canonical).where(audit.c.kind == "notification.rejected")).scalars()
    assert b"is not in the settings any more" in rejected


async def test_only_one_source_sends_the_watchdog(store: Store, connection: Connection) -> None:
    """A Watchdog of another source does not prove that alerts of Alertmanager arrive."""
    body = server.notification(alertname="Watchdog")
    await take(store, IngestSettings(sources=PLAIN), "grafana", body)
    assert key_values.get(connection, key_values.WATCHDOG) is None
    await take(store, IngestSettings(sources=PLAIN, watchdog_source="grafana"), "grafana", body)
    assert key_values.get(connection, key_values.WATCHDOG) is not None


def reconcile_settings(source: Source, **more: Any) -> ReconcileSettings:
    times: Mapping[str, Any] = {"every": timedelta(0), "min_uptime": timedelta(0), **more}
    return ReconcileSettings(source.peers, receiver=source.receiver, source=source.name, **times)


@pytest.mark.promise(2)
async def test_each_source_reconciles_its_own_alerts_only(
    store: Store, connection: Connection, alertmanager: AlertmanagerServer, tmp_path: Path
) -> None:
    """An Alertmanager that does not have an alert of Grafana does not end it, and Grafana ends its own.

    An alert whose notification was lost is added to its source.
    """
    (tmp_path / "token").write_text(server.TOKEN)
    first = AlertmanagerSource(ALERTMANAGER, AlertmanagerSettings(peers=(Endpoint(url=alertmanager.url),)))
    with server.grafana() as running:
        api = Endpoint(url=running.url, token_file=tmp_path / "token")
        second = GrafanaSource("grafana", GrafanaSettings(api=api, receiver="remediator"))
        settings = IngestSettings(sources={**PLAIN, ALERTMANAGER: first, "grafana": second})
        context = context_on(store)

        async def look(source: Source, times: int, **more: Any) -> dict[str, str]:
            for _ in range(times):
                await reconcile(context, settings, reconcile_settings(source, **more))
                await process_inbox(context, WATCHDOG, settings)
            return found(connection)

        try:
            await take(store, settings, "any", json_body())
            running.fire(**LABELS)
            assert await look(second, 1) == {"any": "firing", "grafana": "firing"}, "a lost notification is added"
            assert await look(first, 5) == {"any": "firing", "grafana": "firing"}
            running.alerts.clear()
            assert await look(second, 4, min_uptime=timedelta(hours=1), every=timedelta(seconds=0.001)) == {
                "any": "firing",
                "grafana": "firing",
            }, "Grafana does not say when it started, so an absence counts only after the whole time"
            assert await look(second, 3) == {"any": "firing", "grafana": "resolved"}
        finally:
            for source in (first, second):
                for peer in source.peers:
                    await peer.aclose()


def test_a_client_of_alertmanager_is_a_peer() -> None:
    """The client of Alertmanager can be used as a source without another class."""
    source = AlertmanagerSource(ALERTMANAGER, AlertmanagerSettings(peers=(Endpoint(url="http://127.0.0.1:9"),)))
    assert [type(peer) for peer in source.peers] == [Alertmanager]
