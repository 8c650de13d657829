"""The frequent queries of the engine use an index on both databases, so their cost does not grow with the history."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import Any

import sqlalchemy
from sqlalchemy import Connection, event

from remediator.core.clock import from_micros
from remediator.core.run import Status
from remediator.core.run_detail import BlockedDetail
from remediator.pipeline.closing import close_due_episodes
from remediator.pipeline.context import PlaybookSet
from remediator.pipeline.ingest import IngestSettings, process_inbox
from remediator.pipeline.match import Index
from remediator.pipeline.receive import receive
from remediator.playbooks.model import Playbook
from remediator.runtime.maintenance import MaintenanceSettings, run_maintenance
from remediator.storage import Store, Tx
from remediator.storage.repositories import (
    approvals,
    attempts,
    audit,
    blocked_runs,
    dependencies,
    episodes,
    evidence,
    inbox,
    key_values,
    outbox,
    run_claims,
    run_results,
    run_transitions,
    runs,
    stops,
    storms,
    stuck_runs,
    target_locks,
    timers,
)
from tests.storage.test_intake import context_on
from tests.support.guard_history import playbook

GROWING = (
    *("approvals", "attempts", "audit", "decisions", "episodes", "evidence", "messages", "notifications"),
    *("run_episodes", "runs", "timers", "verdicts"),
)
"""Tables that grow with the history; the size of any other table depends on the installation."""
HOUR = timedelta(hours=1)
MOMENT = from_micros(1_800_000_000_000_000)
Asked = list[tuple[str, Any]]


@contextmanager
def listening() -> Iterator[Asked]:
    """Collect every statement with its parameters."""
    heard: Asked = []

    def hear(
        connection: Connection, cursor: Any, statement: str, parameters: Any, context: Any, executemany: bool
    ) -> None:
        if statement.lstrip().startswith(("SELECT", "UPDATE", "DELETE", "WITH")):
            heard.append((statement, parameters[0] if executemany else parameters))

    event.listen(sqlalchemy.Engine, "before_cursor_execute", hear)
    try:
        yield heard
    finally:
        event.remove(sqlalchemy.Engine, "before_cursor_execute", hear)


def plan(connection: Connection, kind: str, statement: str, parameters: Any) -> list[str]:
    """Return the lines of the query plan."""
    how = "EXPLAIN QUERY PLAN" if kind == "sqlite" else "EXPLAIN"
    rows = connection.exec_driver_sql(f"{how} {statement}", parameters).all()
    return [str(row[-1]) for row in rows]


def partial_indexes(connection: Connection, kind: str) -> set[str]:
    """Return the indexes that contain only open, waiting or due rows; a scan of these does not scan the history."""
    asked = (
        "SELECT name FROM sqlite_master WHERE type = 'index' AND sql LIKE '% WHERE %'"
        if kind == "sqlite"
        else "SELECT indexname FROM pg_indexes WHERE indexdef LIKE '%% WHERE %%'"
    )
    return set(connection.exec_driver_sql(asked).scalars())


def walks(line: str, names: dict[str, str], partial: set[str]) -> bool:
    """Return whether a line of a query plan scans a growing table completely."""
    words = line.split()
    if "Seq" in words and "Scan" in words:  # PostgreSQL is configured to avoid this where possible
        return words[words.index("on") + 1] in GROWING
    if words[0] == "SCAN" and names.get(words[1], words[1]) in GROWING:
        return not ("INDEX" in words and words[words.index("INDEX") + 1] in partial)
    return False


def told(status: str, number: int) -> bytes:
    alert = {
        "status": status,
        "labels": {"alertname": "RedisDown", "n": str(number)},
        "startsAt": "2026-01-01T00:00:00Z",
        "endsAt": "0001-01-01T00:00:00Z",
    }
    return json.dumps({"version": "4", "receiver": "r", "alerts": [alert]}).encode()


async def everything(store: Store, heals: Playbook) -> None:
    """Run the queries of the loops, the API and the guards for a notification, a run and a poll."""
    context, index, settings = (
        context_on(store),
        Index((heals,), "Watchdog"),
        IngestSettings(resolve_grace=timedelta(0)),
    )
    context.playbooks = PlaybookSet((heals,), context.playbooks.inventory, "test")
    await receive(store, told("firing", 1))
    await process_inbox(context, index, settings)
    await store.write(lambda tx: runs.create(tx, "run-1", "p", "h", "t", "auto", "test"))
    [run, *_] = await store.write(lambda tx: run_claims.claim_due(tx, "me", HOUR, 5, ["another"]))
    run = await store.write(lambda tx: run_claims.renew_lease(tx, run, HOUR))
    run = await store.write(
        lambda tx: run_transitions.transition(tx, run, Status.BLOCKED, None, BlockedDetail(), "test")
    )
    await store.write(lambda tx: run_claims.release(tx, run, tx.now, run.wakeup_count))
    await receive(store, told("resolved", 1))
    await process_inbox(context, index, settings)
    await close_due_episodes(context)
    await run_maintenance(context, MaintenanceSettings())
    await store.write(_written)
    await store.read(_looked)


def _written(tx: Tx) -> None:
    runs.notify(tx, ["run-1"])
    runs.close_incident(tx, ["run-1"])
    inbox.list_pending(tx, 64)
    timers.complete_undo(tx, "run-1", "step")
    blocked_runs.schedule_now(tx, ["kill_switch"])
    run = runs.get(tx.connection, "run-1")
    assert run is not None
    blocked_runs.schedule_next(tx, ["concurrency", "ramp"], run)
    outbox.enqueue_update(tx, "run-1", "succeeded")


def _looked(connection: Connection) -> None:
    run_claims.next_wake_at(connection, MOMENT, ["another"])
    runs.get_open_incidents(connection, [("p", "t"), ("q", "u")])
    target_locks.lock_holder(connection, "t", "run-1")
    target_locks.list_locks(connection)
    target_locks.list_lock_holders(connection)
    blocked_runs.count(connection)
    runs.count_by_status(connection, "p")
    for choice in ({}, {"playbook": "p"}, {"target": "t"}, {"status": "failed"}, {"open_only": True}):
        runs.list_page(connection, 50, None, runs.RunFilter(**choice))
        runs.list_page(connection, 50, (MOMENT, "run-1"), runs.RunFilter(**choice))
    stuck_runs.list_stuck(connection, MOMENT)
    stuck_runs.list_unsupported(connection)
    episodes.get_last_updates(connection, ["a", "b"])
    episodes.list_for_run(connection, "run-1")
    episodes.list_open(connection)
    episodes.list_firing(connection, "alertmanager")
    episodes.list_due_to_close(connection, MOMENT)
    episodes.next_close_at(connection)
    episodes.run_ids_of_alert(connection, "RedisDown", 20)
    episodes.run_ids_of_alert(connection, "RedisDown", 20, (MOMENT, "run-1"), status="failed")
    storms.last_storm_at(connection, MOMENT, 10, HOUR)
    dependencies.list_active_runs(connection, ["t"])
    dependencies.list_firing(connection, ["t"], "service")
    attempts.list_for_run(connection, "run-1")
    attempts.get_in_flight(connection, "run-1")
    scopes = [attempts.Scope(MOMENT, 3, target, name) for target, name in (("t", None), (None, "p"), (None, None))]
    attempts.list_last_acting(connection, scopes, "run-1")
    attempts.list_reached(connection, scopes, "run-1")
    run_results.count_wave(connection, "p", MOMENT, ("run-1", "t"), (3, 2))
    run_results.list_acting(connection, "p", MOMENT, ("run-1", "t"))
    run_results.list_failed(connection, "p", MOMENT, ("run-1", "t"), 2)
    run_results.list_latest(connection, "p", MOMENT, "t", (3, 2))
    run_results.find_acting(connection, "p", MOMENT, "run-1")
    evidence.list_for_run(connection, "run-1")
    evidence.list_verdicts(connection, "run-1")
    approvals.get_pending(connection, "run-1")
    approvals.get_latest(connection, "run-1")
    approvals.list_pending(connection)
    outbox.list_due(connection, MOMENT)
    outbox.list_for_run(connection, "run-1")
    outbox.list_dead(connection)
    timers.list_due_undos(connection, MOMENT)
    timers.list_due_recurrence_checks(connection, MOMENT)
    stops.list_active(connection, MOMENT)
    inbox.count_pending(connection)
    audit.list_for_run(connection, "run-1")
    key_values.get(connection, "watchdog")


# A page of open runs is left out: SQLite sorts the open runs, which are few however long the history is.
CHOICES: tuple[dict[str, str], ...] = ({}, {"playbook": "p"}, {"target": "t"}, {"status": "failed"})


async def test_no_page_of_runs_sorts_the_history(store: Store, connection: Connection, kind: str) -> None:
    """An index returns the runs of a page in the order of their times. Only runs of one microsecond are sorted."""
    with listening() as asked:
        for choice in CHOICES:
            for before in (None, (MOMENT, "run-1")):
                only = runs.RunFilter(**choice)
                await store.read(partial(runs.list_page, limit=50, before=before, only=only))
    if kind == "postgresql":
        for setting in ("enable_seqscan", "enable_bitmapscan", "enable_sort"):  # the table is nearly empty
            connection.exec_driver_sql(f"SET {setting} = off")
    assert len(asked) == 2 * len(CHOICES)
    for statement, given in asked:
        lines = plan(connection, kind, statement, given)
        full = [
            line for line in lines if line.endswith("TEMP B-TREE FOR ORDER BY") or re.search(r"(^|-> +)Sort ", line)
        ]
        assert not full, "\n".join([statement, *lines])


async def test_every_hot_query_uses_an_index(store: Store, connection: Connection, kind: str) -> None:
    """No query for a notification, run, poll or page scans a whole table that grows with the history."""
    with listening() as asked:
        await everything(store, playbook())
    if kind == "postgresql":
        connection.exec_driver_sql("SET enable_seqscan = off")
    partial = partial_indexes(connection, kind)
    bad: dict[str, list[str]] = {}
    for statement, given in {text: given for text, given in asked}.items():
        lines = plan(connection, kind, statement, given)
        words = statement.replace(",", " ").split()
        names = {words[place + 1]: words[place - 1] for place, word in enumerate(words[:-1]) if word == "AS"}
        page = "WHERE" not in statement and "LIMIT" in statement  # a limited number of the newest
        if not page and any(walks(line, names, partial) for line in lines):
            bad[statement] = lines
    assert len(asked) > 60
    assert not bad, "\n\n".join("\n".join([statement, *lines]) for statement, lines in bad.items())
