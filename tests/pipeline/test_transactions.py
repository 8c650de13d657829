"""The number of commits and statements from the 2xx to the action and to the end of a run, and the events that they
must see.

The numbers do not depend on the speed of the machine. They are limits: a change that needs more must give its reason
here.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from typing import Any

import pytest
import sqlalchemy
from sqlalchemy import event, select

from remediator.core.run import Run, Status
from remediator.extensions.guards.base import ALLOW, Guard, GuardInput, Verdict
from remediator.pipeline.context import PipelineContext
from remediator.pipeline.ingest import IngestSettings
from remediator.pipeline.match import Index
from remediator.pipeline.receive import receive
from remediator.playbooks.model import Playbook
from remediator.runtime.worker import Worker
from remediator.storage import Store
from remediator.storage.repositories import runs, stops
from remediator.storage.schema import audit
from tests.support.fleet import Health, context, remedy
from tests.support.guard_history import Harness
from tests.support.servers import DEADLINE

COMMITS_TO_ACTION = 3
"""The commits are: the inbox; the episode with its claimed run; the plan with its guards and the intent."""
STATEMENTS_TO_ACTION = 35
"""Statements without BEGIN, COMMIT and ROLLBACK, with all guards that need no server. The goal is 30."""
COMMITS_OF_RUN = 6
"""The commits to the action, and one each for the outcome, the verification and the end of the run."""
STATEMENTS_OF_RUN = 68
CONTROL = ("BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE")
HEAL = remedy(
    "heal",
    {},
    match={"alertname": "Down"},
    diagnose=[{"id": "look", "check": "test.well"}],
    verify={"settle": "0s"},
)
ENTRIES = [
    "notification.received",
    "episode.opened",
    "run.matched",
    "evidence",
    "evidence",
    "run.transition",
    "run.planned",
    "guard.verdict",
    "run.transition",
    "evidence",
    "guard.verdict",
    "action.intended",
    "action.outcome",
    "run.transition",
    "evidence",
    "verification",
    "run.transition",
]
"""The audit entries of one healed run, however its transactions are divided."""


@contextmanager
def heard() -> Iterator[list[str]]:
    """Collect every statement of all connections."""
    statements: list[str] = []

    def hear(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        statements.append(statement.lstrip())

    event.listen(sqlalchemy.Engine, "before_cursor_execute", hear)
    try:
        yield statements
    finally:
        event.remove(sqlalchemy.Engine, "before_cursor_execute", hear)


def counted(statements: list[str]) -> tuple[int, int]:
    """Return the number of commits, and the number of statements other than transaction control."""
    return (
        sum(statement.startswith("COMMIT") for statement in statements),
        sum(not statement.startswith(CONTROL) for statement in statements),
    )


@asynccontextmanager
async def working(engine: PipelineContext, playbook: Playbook) -> AsyncIterator[None]:
    """Run the loops of the inbox and of the runs."""
    worker = Worker(engine, Index([playbook], "Watchdog"), IngestSettings(), poll=60.0)
    loops = [asyncio.create_task(worker.run_ingest_loop()), asyncio.create_task(worker.run_advance_loop())]
    await asyncio.sleep(0.05)  # both loops have found nothing to do
    try:
        yield
    finally:
        for loop in loops:
            loop.cancel()
            with suppress(asyncio.CancelledError):
                await loop


def notification(service: str, status: str = "firing") -> bytes:
    alert = {
        "status": status,
        "labels": {"alertname": "Down", "service": service},
        "startsAt": "2026-03-04T11:59:00Z",
        "endsAt": "2026-03-04T12:00:00Z" if status == "resolved" else "0001-01-01T00:00:00Z",
    }
    return json.dumps({"version": "4", "receiver": "r", "alerts": [alert]}).encode()


async def ended(store: Store, target: str) -> Run:
    """Wait until the run of a target has ended and is released, and return it."""
    async with asyncio.timeout(DEADLINE):
        while True:
            for run in await store.read(
                lambda connection: runs.list_page(connection, 1, only=runs.RunFilter(target=target))
            ):
                if run.finished_at is not None and run.lease_owner is None:
                    return run
            await asyncio.sleep(0.1)


async def released(harness: Harness, target: str) -> None:
    """Wait until the run of a target is released, on a connection that :func:`heard` does not see."""
    query = "SELECT lease_owner FROM runs WHERE target = ? AND (finished_at IS NOT NULL OR status = 'blocked')"
    with closing(sqlite3.connect(harness.store.path)) as connection:  # type: ignore[attr-defined]
        async with asyncio.timeout(DEADLINE):
            while connection.execute(query, (target,)).fetchone() != (None,):
                await asyncio.sleep(0.05)


@pytest.mark.promise(3)
@pytest.mark.promise(9)
async def test_a_run_needs_few_commits_and_statements(harness: Harness) -> None:
    """The number of commits from the 2xx to the action is three, and the audit log is complete and in order."""
    health, before_action, wholes, statements = Health(), [], [], []
    engine = context(harness.store, harness.clock, [HEAL], health, "a")

    async def acting() -> None:
        before_action.append(list(statements))

    async with working(engine, HEAL):
        await receive(harness.store, notification("web-1"))  # the receiver is known and the statements are built
        await ended(harness.store, "web-1")
        health.before = acting
        for target in ("web-2", "web-3", "web-4"):
            with heard() as statements:
                await receive(harness.store, notification(target))
                await released(harness, target)
                wholes.append(list(statements))
            run = await ended(harness.store, target)
            assert run.status is Status.SUCCEEDED
    # the minimum of three runs, because the worker may have looked for other work during one of them
    fewest = min(before_action, key=counted)
    commits, asked = counted(fewest)
    assert commits <= COMMITS_TO_ACTION and asked <= STATEMENTS_TO_ACTION, "\n".join(fewest)
    fewest = min(wholes, key=counted)
    commits, asked = counted(fewest)
    assert commits <= COMMITS_OF_RUN and asked <= STATEMENTS_OF_RUN, "\n".join(fewest)
    kinds = await harness.store.read(lambda c: list(c.execute(select(audit.c.kind).order_by(audit.c.seq)).scalars()))
    assert kinds[-len(ENTRIES) :] == ENTRIES


class Interfering(Guard):
    """A guard that starts an event between the evaluation of the guards and the intent."""

    name = "interfering"
    reasons = frozenset({"never"})

    def __init__(self, happens: Any) -> None:
        self._happens = happens

    async def evaluate_live(self, guard_input: GuardInput) -> Verdict:
        if guard_input.step is not None:
            await self._happens(guard_input.run)
        return ALLOW


async def interfered(harness: Harness, happens: Any) -> tuple[Run, Health]:
    """Run a remedy, and let one event happen between its guards and its intent."""
    health, done = Health(), []

    async def once(run: Run) -> None:
        if not done:
            done.append(run)
            await happens(run)

    engine = context(harness.store, harness.clock, [HEAL], health, "a")
    engine.guards = [*engine.guards, Interfering(once)]
    async with working(engine, HEAL):
        await receive(harness.store, notification("web-2"))
        async with asyncio.timeout(DEADLINE):
            while not done:
                await asyncio.sleep(0.05)
        await released(harness, "web-2")
    [run] = await harness.store.read(lambda connection: runs.list_page(connection, 2))
    return run, health


@pytest.mark.promise(10)
async def test_a_stop_between_the_guards_and_the_intent_counts(harness: Harness) -> None:
    """A stop that is committed after the evaluation of the guards and before the intent prevents the action."""

    async def stop(run: Run) -> None:
        await harness.store.write(lambda tx: stops.create(tx, "stop-1", "global", "", "wait", "user:ann"))

    run, health = await interfered(harness, stop)

    assert (run.status, run.blocked_by) == (Status.BLOCKED, "kill_switch")
    assert not health.well


@pytest.mark.promise(10)
async def test_a_stop_of_another_process_counts(harness: Harness) -> None:
    """If a command commits on another connection, the guards are evaluated again."""

    async def stop(run: Run) -> None:
        engine = sqlalchemy.create_engine(f"sqlite:///{harness.store.path}")  # type: ignore[attr-defined]
        with engine.begin() as connection:
            connection.exec_driver_sql(
                "INSERT INTO stops (id, scope, name, reason, created_by, created_at) "
                "VALUES ('stop-1', 'global', '', 'wait', 'user:ann', 1)"
            )
        engine.dispose()

    run, health = await interfered(harness, stop)

    assert (run.status, run.blocked_by) == (Status.BLOCKED, "kill_switch")
    assert not health.well


@pytest.mark.promise(10)
async def test_a_cancellation_between_the_guards_and_the_intent_counts(harness: Harness) -> None:
    """A cancellation during the evaluation of the guards takes effect before the action."""

    async def cancel(run: Run) -> None:
        await harness.store.write(lambda tx: runs.request_cancel(tx, run.id, "user:ann", "enough"))

    run, health = await interfered(harness, cancel)

    assert run.status is Status.CANCELLED
    assert not health.well


async def test_a_new_run_is_claimed_where_it_is_created(harness: Harness) -> None:
    """The replica that creates a run claims it in the same transaction; a replica without a free slot does not."""
    engine = context(harness.store, harness.clock, [HEAL], Health(), "a")
    worker = Worker(engine, Index([HEAL], "Watchdog"), IngestSettings(), concurrency=0, poll=60.0)
    await receive(harness.store, notification("web-2"))
    loops = [asyncio.create_task(worker.run_ingest_loop()), asyncio.create_task(worker.run_advance_loop())]
    async with asyncio.timeout(DEADLINE):
        while not (found := await harness.store.read(lambda connection: runs.list_page(connection, 1))):
            await asyncio.sleep(0.02)
    for loop in loops:
        loop.cancel()
    await asyncio.gather(*loops, return_exceptions=True)

    assert [(run.status, run.lease_owner, run.fence) for run in found] == [(Status.MATCHED, None, 0)]
