"""The memory of releases and remedies: durable, shared by all replicas, cleared only by a person, and pruned."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from sqlalchemy import Connection, text

from remediator.audit import Kind
from remediator.core.ids import Ids
from remediator.core.plan import PlannedStep
from remediator.core.release import ReleaseMemory, Verdict
from remediator.core.run import Run, Status
from remediator.core.run_detail import RunningDetail
from remediator.errors import InputError
from remediator.runtime.pruning import PruningSettings, prune
from remediator.storage import Store, Tx
from remediator.storage.repositories import audit, remedy_memory
from remediator.storage.repositories.remedy_memory import NO_HELP, MemoryEntry, MemoryKind, Subject, remedy_key
from tests.storage.conftest import OpenStore
from tests.storage.test_pruning import context_on
from tests.support.guard_history import NOON, STEP, row

pytestmark = pytest.mark.promise(12)

KEY = remedy_key(STEP, ["down"])


def run_of(name: str, target: str = "app") -> Run:
    """Return a run that acted on a target."""
    values = row(name, "app-crash-loop", target, "running", NOON)
    names = [each for each in Run.__dataclass_fields__ if each not in values]
    return Run(**{**dict.fromkeys(names), **values, "status": Status.RUNNING, "detail": RunningDetail()})


def remember(tx: Tx, run: str, kind: MemoryKind, key: str, verdict: str, target: str = "app") -> None:
    """Store one verdict."""
    about = Subject(kind, key, f"name of {key}")
    remedy_memory.remember(tx, Ids(), run_of(run, target), about, verdict, "why", "test")


async def release(store: Store, key: str, verdict: str, run: str = "run-1", target: str = "app") -> None:
    """Store the verdict on a release."""
    await store.write(lambda tx: remember(tx, run, MemoryKind.RELEASE, key, verdict, target))


async def releases(store: Store, target: str = "app") -> ReleaseMemory:
    """Return the stored verdicts on the releases of a target."""
    return await store.read(lambda connection: remedy_memory.releases_of(connection, target))


async def entries(store: Store) -> list[MemoryEntry]:
    """Return all entries."""
    return await store.read(remedy_memory.list_entries)


async def audited(store: Store, kind: Kind) -> list[dict[str, Any]]:
    """Return the audit entries of a kind."""

    def read(connection: Connection) -> list[dict[str, Any]]:
        return [json.loads(item.canonical)["data"] for item in audit.iterate(connection) if item.kind == kind]

    return await store.read(read)


async def test_a_release_is_remembered_by_every_replica_and_after_a_restart(kind: str, open_store: OpenStore) -> None:
    """Another process reads the entries; on SQLite, the processes run one after the other."""
    first = await open_store()
    other = await open_store() if kind == "postgresql" else first
    await release(first, "b", Verdict.BAD)
    await release(other, "a", Verdict.GOOD)
    await first.close()

    reopened = await open_store()

    assert (await releases(reopened)).verdicts == {"a": Verdict.GOOD, "b": Verdict.BAD}
    assert (await releases(reopened, "other")).verdicts == {}


async def test_the_newest_verdict_replaces_the_older_one(store: Store) -> None:
    """A release that was good can become bad: the memory has one entry, and the audit log both."""
    await release(store, "a", Verdict.GOOD)
    await release(store, "a", Verdict.BAD, "run-2")

    (entry,) = await entries(store)

    assert (entry.verdict, entry.run_id, entry.name) == ("bad", "run-2", "name of a")
    assert [each["verdict"] for each in await audited(store, Kind.MEMORY_RECORDED)] == ["good", "bad"]


async def test_nothing_is_remembered_of_a_transaction_that_fails(store: Store) -> None:
    """The verdict and the outcome are committed together, or neither is."""

    def fail(tx: Tx) -> None:
        remember(tx, "run-1", MemoryKind.RELEASE, "b", Verdict.BAD)
        raise InputError("the outcome cannot be written")

    with pytest.raises(InputError):
        await store.write(fail)

    assert await entries(store) == [] and await audited(store, Kind.MEMORY_RECORDED) == []


async def test_a_remedy_is_found_by_action_parameters_and_cause(store: Store) -> None:
    """Another cause or parameter, an old entry, and the run that applied the remedy do not count."""
    await store.write(lambda tx: remember(tx, "run-1", MemoryKind.REMEDY, KEY, NO_HELP))

    def find(run: str, key: str, since: timedelta = timedelta(hours=1), target: str = "app") -> Any:
        def read(connection: Connection) -> Any:
            now = remedy_memory.list_entries(connection)[0].at
            return remedy_memory.find_remedies(connection, run_of(run, target), {key: STEP}, now - since)

        return store.read(read)

    assert set(await find("run-2", KEY)) == {KEY}
    assert not await find("run-1", KEY)
    assert not await find("run-2", KEY, timedelta(0))
    assert not await find("run-2", KEY, target="other")
    assert not await find("run-2", remedy_key(STEP, ["other"]))


def test_only_causes_that_the_step_is_for_make_another_remedy() -> None:
    """A cause that the step does not treat does not make it another remedy."""
    step, other = replace_step(causes=("down",)), replace_step(causes=("down",), parameters={"stop_timeout": "5s"})

    assert remedy_key(step, ["down", "slow"]) == remedy_key(step, ["down"])
    assert remedy_key(step, ["down"]) != remedy_key(other, ["down"])
    assert remedy_key(STEP, ["down"]) != remedy_key(STEP, ["slow"])


def replace_step(**changes: Any) -> PlannedStep:
    """Return the step with other fields."""
    return msgspec.structs.replace(STEP, **changes)


async def test_a_person_clears_an_entry_once_with_an_audit_entry(store: Store) -> None:
    """After that, the release may be restored, even against the record of the platform, and the remedy can run
    again."""
    await release(store, "b", Verdict.BAD)
    await store.write(lambda tx: remember(tx, "run-1", MemoryKind.REMEDY, KEY, NO_HELP))

    for entry in await entries(store):
        await store.write(lambda tx, entry=entry: remedy_memory.clear(tx, entry.id, "user:ann", "the network was down"))

    assert await entries(store) == []
    assert (await releases(store)).verdicts == {"b": Verdict.GOOD}
    assert not await store.read(
        lambda connection: remedy_memory.find_remedies(connection, run_of("run-2"), {KEY: STEP})
    )
    assert {each["kind"] for each in await audited(store, Kind.MEMORY_CLEARED)} == {"release", "remedy"}
    with pytest.raises(InputError, match="remediator memory list"):
        await store.write(lambda tx: remedy_memory.clear(tx, entry.id, "user:ann", "again"))


async def test_a_cleared_release_that_is_rolled_back_again_is_bad_again(store: Store) -> None:
    """The cleared entry does not cover the new rollback."""
    await release(store, "b", Verdict.BAD)
    (entry,) = await entries(store)
    await store.write(lambda tx: remedy_memory.clear(tx, entry.id, "user:ann", "fixed"))

    await release(store, "b", Verdict.BAD, "run-2")

    assert (await releases(store)).verdicts == {"b": Verdict.BAD}


async def test_old_entries_are_pruned_with_the_rest(store: Store) -> None:
    """Entries older than the retention are deleted, and younger ones stay."""
    await release(store, "old", Verdict.BAD)
    await release(store, "new", Verdict.BAD)
    years = 2 * 365 * 24 * 3600 * 1_000_000
    await store.write(
        lambda tx: tx.connection.execute(text(f"UPDATE remedy_memory SET at = at - {years} WHERE subject = 'old'"))
    )

    result = await prune(context_on(store), PruningSettings())

    assert result is not None and result.memory == 1
    assert [entry.subject for entry in await entries(store)] == ["new"]
