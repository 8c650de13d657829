"""What is over for long leaves the database; what still means something stays, however old."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, func, insert, select, text

from remediator.audit import Kind
from remediator.clock import SystemClock
from remediator.config import Config
from remediator.engine import Book, Engine
from remediator.errors import ConfigurationError
from remediator.ids import Ids
from remediator.loader import load_config
from remediator.records import audit
from remediator.stores import Store, Tx, schema
from remediator.story import unknown
from remediator.upkeep import Upkeep, keep_up
from remediator.world import NOTHING
from tests.guards.house import alert, attempt, row

pytestmark = [pytest.mark.promise(2), pytest.mark.promise(9)]

YEAR = timedelta(days=365)
_OLDEST = select(func.min(schema.runs.c.created_at))
HANGING = ("attempts", "evidence", "verdicts", "approvals", "decisions", "messages", "timers", "run_episodes")


def engine_on(store: Store) -> Engine:
    """An engine that only keeps house."""
    book = Book((), NOTHING, "test")
    return Engine(
        store=store, clock=SystemClock(), ids=Ids(), replica="test", book=book, actions={}, checks={}, guards=()
    )


def old_run(name: str, at: datetime, **more: Any) -> dict[str, Any]:
    """A run that was over an hour after it began."""
    over = {"finished_at": at + timedelta(hours=1), "incident_open": False, "holds_target": False}
    return {**row(name, "redis-down", name, "succeeded", at), **over, **more}


def full(tx: Tx, name: str, number: int, at: datetime, **more: Any) -> None:
    """A run with everything that can hang on one."""

    def put(table: str, values: dict[str, Any]) -> None:
        tx.connection.execute(insert(getattr(schema, table)), values)

    put("runs", old_run(name, at, **more))
    seen = alert(number, "closed", at)
    put("episodes", {field: getattr(seen, field) for field in seen.__dataclass_fields__})
    put("run_episodes", {"run_id": name, "episode_id": seen.id, "joined_at": at})
    put("attempts", attempt(name, at, "redis-down", name))
    put(
        "evidence",
        {"run_id": name, "phase": "verify", "name": "x", "status": "ok", "summary": "", "facts": {}, "at": at},
    )
    verdict = {"run_id": name, "at": at, "moment": "plan", "guard": "budget", "answer": "allow", "inputs": {}}
    put("verdicts", verdict)
    asked = {"id": f"ask-{name}", "run_id": name, "plan_hash": "0", "status": "approved", "groups": [], "quorum": 1}
    put("approvals", {**asked, "requested_at": at, "expires_at": at})
    put("decisions", {"approval_id": asked["id"], "identity": "ann", "verb": "approve", "at": at, "how": "token"})
    told = {
        "id": f"message-{name}",
        "run_id": name,
        "channel": "chat",
        "kind": "approval",
        "content": {},
        "attempts": 1,
    }
    put("messages", {**told, "status": "sent", "created_at": at})
    timer = {"id": f"timer-{name}", "kind": "undo", "run_id": name, "content": {}, "due_at": at, "done_at": at}
    put("timers", timer)


def counted(connection: Connection, table: str) -> int:
    """How many rows it has."""
    return int(connection.execute(select(func.count()).select_from(getattr(schema, table))).scalar_one())


def names(connection: Connection, table: str) -> set[str]:
    """The ids that it has."""
    return set(connection.execute(select(getattr(schema, table).c.id)).scalars())


def pruned(connection: Connection) -> list[dict[str, Any]]:
    """What the audit log says of it."""
    found = [json.loads(item.canonical) for item in audit.entries(connection)]
    return [item["data"] for item in found if item["kind"] == Kind.HISTORY_PRUNED]


async def test_what_is_over_for_long_is_forgotten_with_all_that_hangs_on_it(store: Store) -> None:
    """Nothing is left of it but what the audit log says; a younger one is whole."""
    engine = engine_on(store)
    now = engine.clock.now()
    await store.write(lambda tx: full(tx, "run-old", 1, now - YEAR - timedelta(days=2)))
    await store.write(lambda tx: full(tx, "run-young", 2, now - YEAR + timedelta(days=2)))

    await keep_up(engine, Upkeep())

    assert await store.read(lambda connection: names(connection, "runs")) == {"run-young"}
    assert await store.read(lambda connection: names(connection, "episodes")) == {"episode-2"}
    left = await store.read(lambda connection: {table: counted(connection, table) for table in HANGING})
    assert left == dict.fromkeys(HANGING, 1)
    [said] = await store.read(pruned)
    assert (said["runs"], said["episodes"]) == (1, 1)
    await keep_up(engine, Upkeep())
    assert len(await store.read(pruned)) == 1, "nothing to do is not told"


async def test_what_still_means_something_stays(store: Store) -> None:
    """However old: an open incident, a held target, a claim, a run that goes on, a measure to be put back, a message
    that waits, and an alert that still fires."""
    engine = engine_on(store)
    now = engine.clock.now()
    at = now - 3 * YEAR

    def past(tx: Tx) -> None:
        full(tx, "run-open", 1, at, incident_open=True)
        full(tx, "run-held", 2, at, holds_target=True)
        full(tx, "run-claimed", 3, at, lease_owner="other", lease_until=now + timedelta(minutes=1))
        full(tx, "run-going", 4, at, status="awaiting_approval", finished_at=None, incident_open=True)
        full(tx, "run-undo", 5, at)
        full(tx, "run-unsent", 6, at)
        tx.connection.execute(text("UPDATE timers SET done_at = NULL WHERE run_id = 'run-undo'"))
        tx.connection.execute(text("UPDATE messages SET status = 'waiting' WHERE run_id = 'run-unsent'"))
        firing = alert(7, "firing", at)
        tx.connection.execute(
            insert(schema.episodes), {field: getattr(firing, field) for field in firing.__dataclass_fields__}
        )
        tx.connection.execute(text("UPDATE runs SET incident_open = true WHERE id = 'run-open'"))
        tx.connection.execute(text("UPDATE episodes SET status = 'firing' WHERE id = 'episode-1'"))

    await store.write(past)
    await keep_up(engine, Upkeep())

    kept = await store.read(lambda connection: names(connection, "runs"))
    assert kept == {"run-open", "run-held", "run-claimed", "run-going", "run-undo", "run-unsent"}
    assert await store.read(lambda connection: counted(connection, "episodes")) == 7


async def test_it_is_bounded_by_the_time_and_done_in_small_parts(store: Store) -> None:
    """A long past goes within a few looks, however it is spread; what is left is what is young enough."""
    engine = engine_on(store)
    now = engine.clock.now()

    def past(tx: Tx) -> None:
        rows = [old_run(f"run-{number}", now - timedelta(days=number)) for number in range(1, 800)]
        tx.connection.execute(insert(schema.runs), rows)

    await store.write(past)
    sizes = []
    for _ in range(5):
        await keep_up(engine, Upkeep(history=timedelta(days=100)))
        sizes.append(await store.read(lambda connection: counted(connection, "runs")))
    assert sizes[-1] in (99, 100)
    assert all(before - after <= 200 for before, after in pairwise(sizes))
    oldest = await store.read(lambda connection: connection.execute(_OLDEST).scalar())
    assert oldest is not None and oldest >= now - timedelta(days=101)


def test_a_history_that_guards_would_miss_is_refused(tmp_path: Path) -> None:
    """Guards and reports look back for a month."""
    (tmp_path / "remediator.yaml").write_text(
        "apiVersion: remediator/v1\nkind: Config\nstate: state\nplaybooks: []\ninventory: inventory.yaml\n"
        "timing: {history: 7d}\n"
    )
    with pytest.raises(ConfigurationError, match=r"remediator\.yaml:6:.*\n?.*31d or more"):
        load_config(tmp_path / "remediator.yaml", Config)


def test_whoever_asks_for_it_is_told_where_it_is() -> None:
    """Not just that it is not there."""
    assert "remediator audit search --run run-1" in unknown("run-1")
