"""An incident with two runs: the app was escalated with an early cause, and the run for Redis has the better one."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from sqlalchemy import insert, update

from remediator.core.run import Episode
from remediator.storage import Tx
from remediator.storage.repositories import evidence, incidents, runs
from remediator.storage.repositories.evidence import EvidenceRecord
from remediator.storage.schema import episodes, run_episodes
from remediator.storage.schema import runs as table
from tests.support.guard_history import MINUTE, alert, row
from tests.support.web_service import WebService

INCIDENT = "incident-of-a-dependency"
EARLY = "The app waits for something."
BETTER = "The process of Redis has ended <script>alert(1)</script>."
NOTE = "AppHighErrorRate on app was over when the other run had settled"


async def write_incident(web: WebService) -> str:
    """Write the incident: ``run-app`` and ``run-redis``, their alerts, causes and a note. Return its ID."""

    def write(tx: Tx) -> None:
        early, cause = tx.now - 2 * MINUTE, {"causes": [EARLY], "text": EARLY}
        ended = {"detail": cause, "reason": "diagnosed", "finished_at": early + timedelta(seconds=5)}
        _add(tx, row("run-app", "app-down", "app", "escalated", early, **ended), alert(1, at=early, severity="warning"))
        healing = row("run-redis", "redis-down", "redis", "running", tx.now - MINUTE)
        _add(tx, healing, alert(2, at=tx.now - MINUTE, severity="critical"))
        for run_id, name, text in (("run-app", "waits", EARLY), ("run-redis", "down", BETTER)):
            run = runs.get(tx.connection, run_id)
            assert run is not None
            seen = EvidenceRecord("conclude", name, "ok", text, {"typed": True}, tx.now)
            evidence.add(tx, run, [seen], "test")
            incidents.add_note(tx, run, NOTE) if run_id == "run-app" else None

    await web.context.store.write(write)
    return INCIDENT


async def end_incident(web: WebService) -> None:
    """Make the run for Redis succeed, and close all alerts."""

    def write(tx: Tx) -> None:
        done = {"status": "succeeded", "reason": "verified", "finished_at": tx.now, "incident_open": False}
        tx.connection.execute(update(table).where(table.c.id == "run-redis").values(**done))
        tx.connection.execute(update(table).where(table.c.id == "run-app").values(incident_open=False))
        tx.connection.execute(update(episodes).values(status="closed", resolved_at=tx.now))

    await web.context.store.write(write)


def _add(tx: Tx, values: dict[str, object], item: Episode) -> None:
    tx.connection.execute(insert(table), {**values, "incident_id": INCIDENT, "incident_open": True})
    item = replace(item, alertname="AppDown" if values["target"] == "app" else "RedisDown")
    tx.connection.execute(insert(episodes), {name: getattr(item, name) for name in item.__dataclass_fields__})
    tx.connection.execute(insert(run_episodes), {"run_id": values["id"], "episode_id": item.id, "joined_at": tx.now})
