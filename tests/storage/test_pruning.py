"""Old finished data is deleted from the database; data that is still needed is kept at any age."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, func, insert, select, text

from remediator.audit import GENESIS, Draft, Kind, archive
from remediator.config import Config
from remediator.core.clock import SystemClock
from remediator.core.ids import Ids
from remediator.errors import ConfigurationError
from remediator.extensions.clientset import NOTHING, ClientSet
from remediator.extensions.registry import Registry
from remediator.pipeline.context import PipelineContext, PlaybookSet
from remediator.playbooks.loader import load_config
from remediator.playbooks.model import Playbook
from remediator.reporting.run_timeline import missing_run_hint
from remediator.runtime.pruning import BATCH_SIZE, PruningSettings, guard_lookback, prune
from remediator.storage import Store, Tx, schema
from remediator.storage.repositories import audit, baselines, key_values, reports
from tests.support.guard_history import alert, attempt, row
from tests.support.sample_logs import make
from tests.support.servers.remediator import PLAYBOOK

pytestmark = [pytest.mark.promise(2), pytest.mark.promise(9)]

YEAR = timedelta(days=365)
_OLDEST = select(func.min(schema.runs.c.created_at))
HANGING = ("attempts", "evidence", "verdicts", "approvals", "decisions", "messages", "timers", "run_episodes")


def context_on(store: Store) -> PipelineContext:
    """Return an engine for maintenance only."""
    book = PlaybookSet((), NOTHING, "test")
    return PipelineContext(
        store=store, clock=SystemClock(), ids=Ids(), replica="test", playbooks=book, actions={}, checks={}, guards=()
    )


def old_run(name: str, at: datetime, **more: Any) -> dict[str, Any]:
    """Return a run that ended an hour after its start."""
    over = {"finished_at": at + timedelta(hours=1), "incident_open": False, "holds_target": False}
    return {**row(name, "redis-down", name, "succeeded", at), **over, **more}


def full(tx: Tx, name: str, number: int, at: datetime, **more: Any) -> None:
    """Write a run with a row in every table that refers to runs."""

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
    verdict = {"run_id": name, "at": at, "phase": "plan", "guard": "rate_limit", "answer": "allow", "inputs": {}}
    put("verdicts", verdict)
    asked = {"id": f"ask-{name}", "run_id": name, "plan_hash": "0", "status": "approved", "groups": [], "quorum": 1}
    asked |= {"plan": {}, "steps": [], "asked": "approval_needed", "why": ""}
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
    """Return the number of rows of a table."""
    return int(connection.execute(select(func.count()).select_from(getattr(schema, table))).scalar_one())


def names(connection: Connection, table: str) -> set[str]:
    """Return the IDs in a table."""
    return set(connection.execute(select(getattr(schema, table).c.id)).scalars())


def pruned(connection: Connection) -> list[dict[str, Any]]:
    """Return the data of the audit entries about pruning."""
    found = [json.loads(item.canonical) for item in audit.iterate(connection)]
    return [item["data"] for item in found if item["kind"] == Kind.HISTORY_PRUNED]


async def test_an_old_run_is_deleted_with_its_rows(store: Store) -> None:
    """Only the audit entries of the old run remain; a younger run is complete."""
    context = context_on(store)
    now = context.clock.now()
    await store.write(lambda tx: full(tx, "run-old", 1, now - YEAR - timedelta(days=2)))
    await store.write(lambda tx: full(tx, "run-young", 2, now - YEAR + timedelta(days=2)))

    await prune(context, PruningSettings())

    assert await store.read(lambda connection: names(connection, "runs")) == {"run-young"}
    assert await store.read(lambda connection: names(connection, "episodes")) == {"episode-2"}
    left = await store.read(lambda connection: {table: counted(connection, table) for table in HANGING})
    assert left == dict.fromkeys(HANGING, 1)
    [said] = await store.read(pruned)
    assert (said["runs"], said["episodes"], said["ids"]) == (1, 1, ["run-old"])
    await prune(context, PruningSettings())
    assert len(await store.read(pruned)) == 1, "nothing to do is not told"


async def test_runs_that_are_still_needed_are_kept(store: Store) -> None:
    """An old run is kept while any part of the service still needs it, for example a scheduled undo."""
    context = context_on(store)
    now = context.clock.now()
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
    await prune(context, PruningSettings())

    kept = await store.read(lambda connection: names(connection, "runs"))
    assert kept == {"run-open", "run-held", "run-claimed", "run-going", "run-undo", "run-unsent"}
    assert await store.read(lambda connection: counted(connection, "episodes")) == 7


async def test_pruning_by_age_in_small_batches(store: Store) -> None:
    """A long history is deleted within a few turns, and only young runs are left."""
    context = context_on(store)
    now = context.clock.now()

    def past(tx: Tx) -> None:
        rows = [old_run(f"run-{number}", now - timedelta(days=number)) for number in range(1, 800)]
        tx.connection.execute(insert(schema.runs), rows)

    await store.write(past)
    sizes = []
    for _ in range(9):
        await prune(context, PruningSettings(timedelta(days=100)))
        sizes.append(await store.read(lambda connection: counted(connection, "runs")))
    assert sizes[-1] in (99, 100)
    assert all(was - left <= BATCH_SIZE for was, left in pairwise(sizes))
    oldest = await store.read(lambda connection: connection.execute(_OLDEST).scalar())
    assert oldest is not None and oldest >= now - timedelta(days=101)


def test_a_retention_shorter_than_a_guard_needs_is_rejected(tmp_path: Path) -> None:
    """Guards and reports need the history of a month."""
    (tmp_path / "remediator.yaml").write_text(
        "apiVersion: remediator/v1\nkind: Config\nstate: state\nplaybooks: []\ninventory: inventory.yaml\n"
        "timing: {run_retention: 7d}\n"
    )
    with pytest.raises(ConfigurationError, match=r"remediator\.yaml:6:.*\n?.*at least 31d"):
        load_config(tmp_path / "remediator.yaml", Config)


async def test_a_run_is_kept_until_its_entries_are_archived(store: Store) -> None:
    """With an archive, a run is kept while the live log has an entry of it, and deleted after the last one is
    archived."""
    context = context_on(store)
    at = context.clock.now() - 2 * YEAR

    def past(tx: Tx) -> None:
        full(tx, "run-told", 1, at)
        full(tx, "run-sealed", 2, at)
        tx.append_audit(Draft(kind=Kind.EVIDENCE, actor="test", run="run-told"))

    await store.write(past)
    assert await prune(context, PruningSettings(sealed=True)) is not None
    assert await store.read(lambda connection: names(connection, "runs")) == {"run-told"}
    await store.write(lambda tx: audit.delete_until(tx, 1))
    await prune(context, PruningSettings(sealed=True))
    assert await store.read(lambda connection: names(connection, "runs")) == set()


async def test_an_archive_that_lags_delays_pruning(store: Store, connection: Connection) -> None:
    """Only runs that ended before the oldest entry in the live log are candidates for pruning."""
    context = context_on(store)
    at = context.clock.now() - 2 * YEAR
    await store.write(lambda tx: tx.append_audit(Draft(kind=Kind.EVIDENCE, actor="test")))
    if connection.dialect.name == "postgresql":  # the log is append-only: only its owner can change a time
        connection.exec_driver_sql("ALTER TABLE audit DISABLE TRIGGER USER")
    connection.execute(schema.audit.update().values(at=at))
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("ALTER TABLE audit ENABLE TRIGGER USER")
    await store.write(lambda tx: full(tx, "run-1", 1, at + timedelta(days=1)))

    await prune(context, PruningSettings(sealed=True))
    assert await store.read(lambda connection: names(connection, "runs")) == {"run-1"}


async def test_baselines_of_reports_survive_pruning(store: Store) -> None:
    """Reports still have the start of automatic actions of a playbook, and the durations of its alerts before that."""
    context = context_on(store)
    began = context.clock.now() - 2 * YEAR

    def past(tx: Tx) -> None:
        for number in range(6):
            seen = replace(alert(number, "closed", began + timedelta(days=number)), alertname="RedisDown")
            over = replace(seen, resolved_at=seen.started_at + timedelta(minutes=10 + number))
            tx.connection.execute(
                insert(schema.episodes), {field: getattr(over, field) for field in over.__dataclass_fields__}
            )
        acted = began + timedelta(days=4, seconds=30)  # after the start of its alert, which does not count as earlier
        run = old_run("run-1", began + timedelta(days=4), mode="auto", first_action_at=acted)
        tx.connection.execute(insert(schema.runs), run)
        joined = {"run_id": "run-1", "episode_id": "episode-4", "joined_at": began + timedelta(days=4)}
        tx.connection.execute(insert(schema.run_episodes), joined)

    def compared(connection: Connection) -> Any:
        since = reports.automatic_since(connection)
        return since, reports.durations_before(connection, ["RedisDown"], since["redis-down"])

    await store.write(past)
    was = await store.read(compared)
    assert len(was[1]) == 4
    while await prune(context, PruningSettings()) is not None:
        pass
    assert await store.read(lambda connection: counted(connection, "episodes")) == 0
    assert await store.read(compared) == was


async def test_baselines_are_bounded(store: Store) -> None:
    """The number of stored durations has a limit, and the latest ones are kept."""
    at = SystemClock().now() - 3 * YEAR
    lengths = [(at + timedelta(hours=hour), at + timedelta(hours=hour, seconds=hour)) for hour in range(700)]
    for start in range(0, 700, 70):
        await store.write(lambda tx, part=lengths[start : start + 70]: baselines.record_durations(tx, "Noisy", part))  # type: ignore[misc]
    found = await store.read(
        lambda connection: baselines.list_durations(connection, ["Noisy", "Other"], SystemClock().now())
    )
    assert found == [float(hour) for hour in range(699, 699 - baselines.MAX_DURATIONS, -1)]


async def test_old_messages_are_deleted(store: Store) -> None:
    """Old messages without a run are deleted, except waiting ones. The circuit breaker of a playbook stays."""
    context = context_on(store)
    at = context.clock.now() - 2 * YEAR

    def past(tx: Tx) -> None:
        full(tx, "run-1", 1, at)
        key_values.set(tx, "breaker:run-1", "x")
        told = {"channel": "chat", "kind": "notice", "content": {}, "attempts": 1}
        for name, status, when in (("old", "sent", at), ("dead", "dead", at), ("waits", "waiting", at)):
            tx.connection.execute(insert(schema.messages), {**told, "id": name, "status": status, "created_at": when})
        young = {**told, "id": "young", "status": "sent", "created_at": tx.now}
        tx.connection.execute(insert(schema.messages), young)

    await store.write(past)
    await prune(context, PruningSettings())
    assert await store.read(lambda connection: names(connection, "messages")) == {"waits", "young"}
    left = await store.read(lambda connection: set(key_values.with_prefix(connection, "")))
    assert left - {"incarnation"} == {"breaker:run-1"}  # PostgreSQL: the last server that was used


async def test_old_stops_and_versions_are_deleted(store: Store) -> None:
    """An active stop is kept at any age, and so is an active version or the version of an open run."""
    context = context_on(store)
    context.playbooks = PlaybookSet((Playbook.model_validate(PLAYBOOK),), NOTHING, "test")
    [in_force] = context.playbooks.active
    now = context.clock.now()
    at = now - 2 * YEAR

    def past(tx: Tx) -> None:
        for name, ends in {
            "stands": {},
            "released": {"released_at": at, "released_by": "ann"},
            "ended": {"expires_at": at},
            "ends-later": {"expires_at": now + YEAR},
            "released-lately": {"released_at": now - timedelta(days=1), "released_by": "ann"},
        }.items():
            stop = {"id": name, "scope": "global", "name": "", "reason": "x", "created_by": "ann", "created_at": at}
            tx.connection.execute(insert(schema.stops), {**stop, **ends})
        for name, loaded in (("old", at), ("of-a-run", at), ("of-an-old-run", at), ("young", now)):
            version = {"hash": name, "name": "x", "content": {}, "first_loaded_at": loaded}
            tx.connection.execute(insert(schema.playbook_versions), version)
        version = {"hash": in_force.content_hash, "name": in_force.name, "content": {}, "first_loaded_at": at}
        tx.connection.execute(insert(schema.playbook_versions), version)
        going = {"status": "awaiting_approval", "finished_at": None, "incident_open": True}
        tx.connection.execute(insert(schema.runs), old_run("run-going", at, **going, playbook_hash="of-a-run"))
        tx.connection.execute(insert(schema.runs), old_run("run-over", now, playbook_hash="of-an-old-run"))

    await store.write(past)
    await prune(context, PruningSettings())
    assert await store.read(lambda connection: names(connection, "stops")) == {
        "stands",
        "ends-later",
        "released-lately",
    }
    versions = select(schema.playbook_versions.c.hash)
    left = await store.read(lambda connection: set(connection.execute(versions).scalars()))
    assert left == {"of-a-run", "young", in_force.content_hash}
    [said] = await store.read(pruned)
    assert (said["stops"], said["versions"]) == (2, 2)


async def test_an_active_version_deleted_by_another_replica_is_added_again(store: Store) -> None:
    """Two replicas have different files: each adds its own version to the store again in its next turn."""
    context, other = context_on(store), context_on(store)
    context.playbooks = PlaybookSet((Playbook.model_validate(PLAYBOOK),), NOTHING, "test")
    [ours] = context.playbooks.active
    at = context.clock.now() - 2 * YEAR
    version = {"hash": ours.content_hash, "name": ours.name, "content": {}, "first_loaded_at": at}
    await store.write(lambda tx: tx.connection.execute(insert(schema.playbook_versions), version))
    await prune(other, PruningSettings())
    assert await store.read(lambda connection: counted(connection, "playbook_versions")) == 0
    await prune(context, PruningSettings())
    assert await store.read(lambda connection: counted(connection, "playbook_versions")) == 1


async def test_runs_within_the_lookback_of_guards_are_kept(store: Store) -> None:
    """If a rate limit has a longer window than the retention, its runs are kept."""
    context = context_on(store)
    context.guards = Registry().make_guards(ClientSet())
    context.playbooks = PlaybookSet(
        (Playbook.model_validate(PLAYBOOK | {"guards": {"rate_limit": ["9/400d"]}}),), NOTHING, "test"
    )
    assert guard_lookback(context) == timedelta(days=400)
    now = context.clock.now()
    await store.write(lambda tx: full(tx, "run-counted", 1, now - timedelta(days=390)))
    await store.write(lambda tx: full(tx, "run-old", 2, now - timedelta(days=402)))

    await prune(context, PruningSettings())
    assert await store.read(lambda connection: names(connection, "runs")) == {"run-counted"}


def test_a_deleted_run_is_reported_with_its_archive(tmp_path: Path) -> None:
    """If the ID of the run contains a time, the error names the archive file of that time."""
    assert "remediator audit search --run run-1" in missing_run_hint("run-1", tmp_path)
    rows, end = make(12)
    written = archive.write(tmp_path, GENESIS, rows, end)

    def said(at: datetime) -> str:
        return missing_run_hint(Ids().new("run", at), tmp_path)

    assert f"the archive file {written.path.name}" in said(rows[4].time)
    assert "file" not in said(rows[0].time - YEAR) and "file" not in said(rows[-1].time + YEAR)
    written.path.write_bytes(b"damaged")
    assert "audit search" in said(rows[4].time)
