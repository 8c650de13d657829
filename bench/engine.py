"""Measure commits, statements and processor time of a run in the engine: ``python -m bench.engine [--json] [--runs N]``

A run lasts from the inbox to its end. The engine, the store on disk and all guards that need no server are those of
production. Only the target is not real. Counts and processor time depend little on other load of the machine, so two
versions can be compared by them (``make bench-check BASE=REVISION``).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import Any

import sqlalchemy
from sqlalchemy import Connection, event, select

from remediator.core.clock import SystemClock
from remediator.pipeline.ingest import IngestSettings
from remediator.pipeline.match import Index
from remediator.pipeline.receive import receive
from remediator.playbooks.inventory import Inventory
from remediator.runtime.worker import Worker
from remediator.storage.migrate import migrate
from remediator.storage.repositories import runs
from remediator.storage.schema import attempts, notifications
from remediator.storage.schema import runs as table
from remediator.storage.sqlite import SqliteStore
from tests.support.fleet import Health, context, remedy

CONTROL = ("BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE")
OPEN_LIMITS = {
    "rate_limit": {"target": ["9/1h"], "playbook": ["100000/1h"], "global": ["100000/1h"]},
    "concurrency": {"playbook": 1000, "global": 1000},
    "ramp": [1000],
    "storm": {"alerts": 100_000, "within": "1m"},
    "circuit_breaker": {"failures": 1000},
}
"""Limits that no run of the bench reaches: the guards read everything, and block nothing."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--runs", type=int, default=60)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        result = asyncio.run(_measure(Path(folder) / "remediator.db", asked.runs))
    lines = (f"{key:32} {value}" for key, value in result.items())
    print(json.dumps(result) if asked.json else "\n".join(lines))


async def _measure(path: Path, count: int) -> dict[str, Any]:
    url = f"sqlite:///{path}"
    engine = sqlalchemy.create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        migrate(connection)
    engine.dispose()
    names = [f"t{number}" for number in range(2 * count + 1)]
    heal = remedy(
        "heal",
        OPEN_LIMITS,
        match={"alertname": "Down"},
        diagnose=[{"id": "look", "check": "test.well"}],
        verify={"settle": "0s"},
    )
    clock, health = SystemClock(), Health()
    store = SqliteStore(path, clock)
    parts = context(store, clock, [heal], health, "bench", _inventory(names))
    worker = Worker(parts, Index([heal], "Watchdog"), IngestSettings())
    loops = [asyncio.create_task(worker.run_ingest_loop()), asyncio.create_task(worker.run_advance_loop())]
    statements: list[str] = []
    event.listen(sqlalchemy.Engine, "before_cursor_execute", lambda c, cursor, text, *rest: statements.append(text))
    await _heal(store, health, names[:1])  # builds the statements
    commits, asked, spent = [], [], []
    for name in names[1 : count + 1]:
        statements.clear()
        begun = time.process_time()
        await _heal(store, health, [name])
        spent.append(time.process_time() - begun)
        commits.append(sum(text.startswith("COMMIT") for text in statements))
        asked.append(sum(not text.lstrip().startswith(CONTROL) for text in statements))
    begun, wall = time.process_time(), time.perf_counter()
    await _heal(store, health, names[count + 1 :])
    together, wall = time.process_time() - begun, time.perf_counter() - wall
    picture = await store.read(lambda connection: _picture(connection, names[1 : count + 1]))
    for loop in loops:
        loop.cancel()
        with suppress(asyncio.CancelledError):
            await loop
    await store.close()
    return {
        "commits_per_run": median(commits),
        "statements_per_run": median(asked),
        "cpu_ms_per_run": round(median(spent) * 1000, 2),
        "cpu_ms_per_run_at_once": round(together / count * 1000, 2),
        "runs_per_second_at_once": round(count / wall, 1),
        "microseconds_after_receipt": picture,
    }


def _picture(connection: Connection, names: Sequence[str]) -> dict[str, float]:
    """Return the median begin of each transaction of a run, in microseconds after that of its notification."""
    received = select(notifications.c.received_at).order_by(notifications.c.id)
    begun = dict(zip(names, connection.execute(received).scalars().all()[1:], strict=False))
    spans: dict[str, list[float]] = {}
    for row in connection.execute(
        select(table.c.target, table.c.created_at, attempts.c.intent_at, attempts.c.outcome_at, table.c.finished_at)
        .join(attempts, attempts.c.run_id == table.c.id)
        .where(table.c.target.in_(names))
    ):
        for name in ("created_at", "intent_at", "outcome_at", "finished_at"):
            spans.setdefault(name, []).append((getattr(row, name) - begun[row.target]).total_seconds() * 1e6)
    return {name: round(median(values)) for name, values in spans.items()}


def _inventory(names: Sequence[str]) -> Inventory:
    bound = {"platform": {"kind": "supervisor", "url": "unix:///none", "program": "none"}}
    services = dict.fromkeys(names, bound)
    return Inventory.model_validate({"apiVersion": "remediator/v1", "kind": "Inventory", "services": services})


async def _heal(store: SqliteStore, health: Health, names: Sequence[str]) -> None:
    """Fire the alerts of these services, and wait until their runs have ended."""
    alerts = [
        {
            "status": "firing",
            "labels": {"alertname": "Down", "service": name},
            "startsAt": "2026-01-01T00:00:00Z",
            "endsAt": "0001-01-01T00:00:00Z",
        }
        for name in names
    ]
    await receive(store, json.dumps({"version": "4", "receiver": "bench", "alerts": alerts}).encode())
    async with asyncio.timeout(300):
        while not health.well.issuperset(names):
            await asyncio.sleep(0.002)
        while await store.read(lambda connection: runs.list_page(connection, 1, only=runs.OPEN_ONLY)):
            await asyncio.sleep(0.02)


if __name__ == "__main__":
    main()
