"""The work of a guard does not grow with the number of actions and alerts in its windows.

SQLite counts the instructions of its virtual machine, so the measurement does not depend on the speed of the machine.
"""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy
from sqlalchemy import Connection, insert

from remediator.extensions.guards.base import Guard
from remediator.pipeline.guard_evaluation import active_guards, build_input
from remediator.pipeline.run_context import RunContext
from remediator.storage.schema import attempts, episodes, evidence, runs, verdicts
from remediator.storage.sqlite import SqliteStore
from tests.support.guard_history import INVENTORY, NOON, Harness, SetClock, alert, attempt, playbook, row
from tests.support.stores import new_file

FEW, MANY = 100, 10_000
MOST = 1.5
"""The highest factor by which the work may grow with a hundred times the history."""
LIMIT = 300
"""Additional instructions, in tens, for rows whose number has a limit."""
CHOSEN = playbook("redis-down", "app")


def fill(connection: Connection, actions: int) -> None:
    """Write runs of the last 20 minutes, each with an attempt, evidence, a verdict and an alert."""
    begun = [NOON - timedelta(minutes=20) * (number + 1) / actions for number in range(actions)]
    results = ("succeeded", "succeeded", "succeeded", "failed", "escalated", "cancelled")
    past, tries, alerts, seen, judged = [], [], [], [], []
    for number, at in enumerate(begun):
        run_id, target = f"past-{number}", f"other-{number % 50}"
        more = {"first_action_at": at, "finished_at": at + timedelta(seconds=1), "incident_id": run_id}
        past.append(row(run_id, "redis-down", target, results[number % len(results)], at, **more))
        tries.append(attempt(run_id, at, "redis-down", target))
        found = alert(number, "closed", at=at)
        alerts.append({name: getattr(found, name) for name in found.__dataclass_fields__})
        item = {"run_id": run_id, "phase": "diagnose", "name": "x", "status": "ok", "summary": "", "facts": {}}
        seen.append({**item, "at": at})
        verdict = {"run_id": run_id, "at": at, "phase": "plan", "step": None, "guard": "x", "answer": "allow"}
        judged.append({**verdict, "reason": None, "inputs": {}})
    for table, rows in ((runs, past), (attempts, tries), (episodes, alerts), (evidence, seen), (verdicts, judged)):
        connection.execute(insert(table), rows)
    connection.exec_driver_sql("ANALYZE")


async def work_of_guards(path: Path, actions: int) -> dict[str, int]:
    """Return the instructions, in tens, of each guard with this number of actions in its windows."""
    engine = sqlalchemy.create_engine(f"sqlite:///{new_file(path)}", isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql("BEGIN")
        fill(connection, actions)
        connection.exec_driver_sql("COMMIT")
    engine.dispose()
    store = SqliteStore(path, SetClock())
    harness = Harness(store, SetClock())
    ctx = RunContext(harness.context, harness.run("run-now", CHOSEN, "auto", None), CHOSEN, INVENTORY.service("app"))
    asked = build_input(ctx, (), None)

    def count(connection: Connection) -> dict[str, int]:
        raw: sqlite3.Connection = connection.connection.driver_connection  # type: ignore[assignment]
        counted: dict[str, int] = {}
        for guard, settings in active_guards(harness.context, CHOSEN):
            if type(guard).evaluate_stored is Guard.evaluate_stored:
                continue
            steps: list[None] = []
            raw.set_progress_handler(lambda steps=steps: steps.append(None), 10)  # type: ignore[misc]
            guard.evaluate_stored(connection, replace(asked, settings=settings))
            raw.set_progress_handler(None, 0)
            counted[guard.name] = len(steps)
        return counted

    try:
        return await store.read(count)
    finally:
        await store.close()


@pytest.mark.promise(12)
async def test_guards_cost_the_same_with_a_hundred_times_the_actions(tmp_path: Path) -> None:
    """With 100 and with 10,000 actions in its windows, each guard does about the same work."""
    few = await work_of_guards(tmp_path / "few.db", FEW)
    many = await work_of_guards(tmp_path / "many.db", MANY)

    assert {"rate_limit", "cooldown", "ramp", "storm", "circuit_breaker"} <= few.keys()
    grown = {name: (few[name], many[name]) for name in few if many[name] > MOST * few[name] + LIMIT}
    assert not grown, f"in tens of instructions, few and many: {grown}"
