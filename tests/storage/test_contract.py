"""The contract of every store with its readers and writers."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from sqlalchemy import Connection, func, insert, select, text

from remediator.audit import Draft, Kind, NotRecordable
from remediator.errors import StoreUnavailable
from remediator.storage import TOPIC_MESSAGES, TOPIC_NOTIFICATIONS, Store, Tx
from remediator.storage.repositories import audit as audit_records
from remediator.storage.repositories import key_values
from remediator.storage.schema import audit, notifications, runs
from tests.storage.conftest import OpenStore
from tests.support.servers import DEADLINE

ENTRY = Draft(kind=Kind.OPERATOR_COMMAND, actor="user:ann")


def names(connection: Connection) -> set[str]:
    return set(key_values.with_prefix(connection, "")) - {"incarnation"}  # PostgreSQL: the last server that was used


async def test_what_is_written_is_read(store: Store) -> None:
    """After an awaited write, every read sees the change."""
    for number in range(50):
        await store.write(lambda tx, n=number: key_values.set(tx, "count", n))  # type: ignore[misc]
        fact = await store.read(lambda connection: key_values.get(connection, "count"))
        assert fact is not None and fact.value == number


@pytest.mark.promise(1)
async def test_an_accepted_notification_is_in_the_inbox(store: Store, connection: Connection) -> None:
    """When ``accept`` returns, every other connection sees the exact body."""
    bodies = [b'{"n": %d}' % number for number in range(200)]
    await asyncio.gather(*(store.accept("webhook", body) for body in bodies))
    assert set(connection.execute(select(notifications.c.body)).scalars()) == set(bodies)


async def test_many_writers_share_few_transactions(store: Store) -> None:
    """Jobs that are submitted together are committed together, and have the same time of the store."""
    times = await asyncio.gather(*(store.write(lambda tx: tx.now) for _ in range(300)))
    assert len(set(times)) < 30


@pytest.mark.parametrize("person", ["user:ann", "user:50%_o'neill", 'user:"q"\\', "user:zoë 山"])
async def test_entries_are_listed_by_person(store: Store, person: str) -> None:
    """Whatever characters the name has, the result has exactly this person's entries, newest first, without the hidden
    kinds."""

    def record(tx: Tx) -> None:
        for actor in ("user:an", person, "user:annette", person):
            tx.append_audit(Draft(kind=Kind.OPERATOR_COMMAND, actor=actor, data={"about": person}))
            tx.append_audit(Draft(kind=Kind.EVIDENCE, actor=actor))

    await store.write(record)
    for hidden, expected in (((), [8, 7, 4, 3]), ((Kind.EVIDENCE.value,), [7, 3])):
        found = await store.read(
            lambda connection, hidden=hidden: audit_records.list_newest(connection, 50, actor=person, hidden=hidden)  # type: ignore[misc]
        )
        assert [item.seq for item in found] == expected
    page = await store.read(lambda connection: audit_records.list_newest(connection, 1, before=8, actor=person))
    assert [item.seq for item in page] == [7]


async def test_work_that_fails_undoes_only_its_own_changes(store: Store) -> None:
    """An exception in one job rolls back only its own changes, and only its caller gets the exception."""

    def good(tx: Tx, name: str) -> None:
        key_values.set(tx, name, 1)
        tx.append_audit(ENTRY)

    def bad(tx: Tx) -> None:
        good(tx, "bad")
        raise KeyError("my own mistake")

    done = await asyncio.gather(
        *(store.write(lambda tx, n=n: good(tx, f"good-{n}")) for n in range(5)),  # type: ignore[misc]
        store.write(bad),
        *(store.write(lambda tx, n=n: good(tx, f"good-{n}")) for n in range(5, 10)),  # type: ignore[misc]
        return_exceptions=True,
    )

    assert [type(item) for item in done if item is not None] == [KeyError]
    assert await store.read(names) == {f"good-{n}" for n in range(10)}
    assert (await store.read(audit_records.get_head)).seq == 10


@pytest.mark.promise(9)
async def test_an_invalid_audit_entry_undoes_only_its_own_work(store: Store) -> None:
    """If the audit log refuses a draft, only its own job is rolled back; other jobs and notifications are committed."""

    def work(tx: Tx, name: str, data: Any) -> None:
        key_values.set(tx, name, 1)
        tx.append_audit(Draft(kind=Kind.OPERATOR_COMMAND, actor="user:ann", data=data))

    done = await asyncio.gather(
        store.write(lambda tx: work(tx, "before", {"n": 1})),
        store.write(lambda tx: work(tx, "poisoned", {"n": object()})),
        store.accept("webhook", b"{}"),
        store.write(lambda tx: work(tx, "after", {"n": 2})),
        return_exceptions=True,
    )

    assert [type(item) for item in done if item is not None] == [NotRecordable]
    assert await store.read(names) == {"before", "after"}
    assert (await store.read(audit_records.get_head)).seq == 2
    counted = await store.read(lambda c: c.execute(select(func.count()).select_from(notifications)).scalar_one())
    assert counted == 1


async def test_an_invalid_statement_undoes_only_its_own_work(store: Store) -> None:
    """The caller gets the error of the refused SQL, and other jobs are committed."""

    def twice(tx: Tx) -> None:
        values = {"received_at": tx.now, "source": "webhook", "body": b"", "id": 7}
        tx.connection.execute(insert(notifications).values(values))
        tx.connection.execute(insert(notifications).values(values))

    done = await asyncio.gather(
        store.write(lambda tx: key_values.set(tx, "before", 1)),
        store.write(lambda tx: tx.connection.execute(text("SELECT * FROM no_such_table"))),
        store.write(twice),
        store.write(lambda tx: key_values.set(tx, "after", 1)),
        return_exceptions=True,
    )

    assert [item is None for item in done] == [True, False, False, True]
    assert await store.read(names) == {"before", "after"}


@pytest.mark.promise(9)
async def test_a_change_and_its_audit_entry_are_one_transaction(store: Store, connection: Connection) -> None:
    """The change and its audit entry are committed together, or neither is."""

    def failing(tx: Tx) -> None:
        tx.append_audit(ENTRY)
        key_values.set(tx, "half", 1)
        raise ValueError

    with pytest.raises(ValueError):
        await store.write(failing)
    assert names(connection) == set()
    assert connection.execute(select(func.count()).select_from(audit)).scalar_one() == 0


async def test_a_write_notifies_the_waiters_of_its_topic(open_store: OpenStore, kind: str) -> None:
    """A waiter on another replica is notified long before its next poll."""
    here = await open_store()
    there = await open_store() if kind == "postgresql" else here
    await there.write(lambda tx: None)  # the replica listens after this

    async def woken() -> bool:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        await there.wakeups.wait(TOPIC_MESSAGES, 100)
        return loop.time() - begun < 80

    waiting = asyncio.create_task(woken())
    while not waiting.done():  # the listener of the other replica may connect only after this
        await here.write(lambda tx: tx.notify(TOPIC_MESSAGES))
        await asyncio.wait([waiting], timeout=0.2)
    assert await waiting


async def test_two_replicas_set_the_same_value_at_once(
    open_store: OpenStore, kind: str, connection: Connection
) -> None:
    """Replicas may receive the first Watchdog, or sign the first checkpoint, at the same time: no job is refused."""
    here = await open_store()
    there = await open_store() if kind == "postgresql" else here
    for number in range(40):
        both = (store.write(lambda tx, store=store: key_values.set(tx, f"{number}", 1)) for store in (here, there))  # type: ignore[misc]  # noqa: B023
        await asyncio.gather(*both)
    assert len(names(connection)) == 40


async def test_an_accepted_notification_notifies_the_ingest_loop(open_store: OpenStore) -> None:
    """The ingest loop is notified of the notification, so it does not wait for its next poll."""
    store = await open_store()
    await store.accept("webhook", b"{}")
    await asyncio.wait_for(store.wakeups.wait(TOPIC_NOTIFICATIONS, 60), 50)


async def test_close_commits_the_queued_work(open_store: OpenStore, connection: Connection) -> None:
    """Closing the store commits the queued jobs, and refuses later ones."""
    store = await open_store()
    writes = [asyncio.create_task(store.write(lambda tx, n=n: key_values.set(tx, f"{n}", 1))) for n in range(20)]  # type: ignore[misc]
    await asyncio.sleep(0)
    await store.close()
    await asyncio.gather(*writes)
    assert len(names(connection)) == 20
    with pytest.raises(StoreUnavailable):
        await store.write(lambda tx: None)


@pytest.mark.promise(1)
async def test_a_locked_store_times_out_and_stores_nothing(store: Store, connection: Connection, kind: str) -> None:
    """If another process holds the lock for longer than the sender waits, the notification is refused in time.

    After the release, notifications are accepted again, and no refused notification is stored.
    """
    await store.accept("webhook", b"before")
    connection.exec_driver_sql("BEGIN EXCLUSIVE" if kind == "sqlite" else "BEGIN")
    if kind == "postgresql":
        connection.exec_driver_sql("LOCK TABLE notifications")
    refused = await asyncio.gather(*(store.accept("webhook", b"x") for _ in range(3)), return_exceptions=True)
    assert [type(error) for error in refused] == [StoreUnavailable] * 3
    if kind == "postgresql":  # the lock timeout of the server is longer, and a hung server has none
        assert all("has not answered for" in str(error) for error in refused)
    connection.exec_driver_sql("ROLLBACK")
    await asyncio.wait_for(_accepted(store, b"after"), 60)
    bodies = set(connection.execute(select(notifications.c.body)).scalars())
    assert {b"before", b"after"} <= bodies


async def _accepted(store: Store, body: bytes) -> None:
    """Accept a notification, with retries like a sender."""
    while True:
        try:
            return await store.accept("webhook", body)
        except StoreUnavailable:
            await asyncio.sleep(0.1)


async def test_a_disconnected_listener_reconnects(open_store: OpenStore, kind: str) -> None:
    """The server closes the connection that listens; soon after, notifications of other replicas arrive again."""
    if kind != "postgresql":
        pytest.skip("one process needs no listener")
    here, there = await open_store(), await open_store()
    await there.write(lambda tx: None)  # the replica listens after this
    cut = text(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
        "WHERE query LIKE 'LISTEN %' AND datname = current_database()"
    )
    ended = 0
    while not ended:
        ended = await here.read(lambda connection: connection.execute(cut).scalar_one())
    woken = asyncio.create_task(there.wakeups.wait(TOPIC_MESSAGES, 50))
    while not woken.done():
        await here.write(lambda tx: tx.notify(TOPIC_MESSAGES))
        await asyncio.wait([woken], timeout=0.2)
    again = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'LISTEN %' AND datname = current_database()"
    assert await here.read(lambda connection: connection.execute(text(again)).scalar_one()) >= 1


@pytest.mark.promise(2)
async def test_a_constraint_allows_one_run_per_incident(store: Store) -> None:
    """The database refuses a second open run for a playbook and target, whatever the code does."""
    await store.write(lambda tx: tx.connection.execute(insert(runs), run(tx, "first")))
    with pytest.raises(Exception, match=r"(?i)unique"):
        await store.write(lambda tx: tx.connection.execute(insert(runs), run(tx, "second")))
    await store.write(lambda tx: tx.connection.execute(insert(runs), run(tx, "third", incident_open=False)))


@pytest.mark.promise(4)
async def test_a_constraint_allows_one_lock_per_target(store: Store) -> None:
    """The database refuses a second run that holds the same target."""
    await store.write(lambda tx: tx.connection.execute(insert(runs), run(tx, "first", playbook="a", holds_target=True)))
    with pytest.raises(Exception, match=r"(?i)unique"):
        await store.write(
            lambda tx: tx.connection.execute(insert(runs), run(tx, "second", playbook="b", holds_target=True))
        )


def run(tx: Tx, name: str, **values: Any) -> dict[str, Any]:
    """Return the columns of a due run."""
    return {
        "id": name,
        "status": "matched",
        "detail": {},
        "playbook": "redis-down",
        "playbook_hash": "0" * 64,
        "target": "redis",
        "mode": "auto",
        "engine_version": 1,
        "wake_at": tx.now,
        "incident_open": True,
        "holds_target": False,
        "created_at": tx.now,
        "updated_at": tx.now,
        **values,
    }


@pytest.mark.promise(14)
async def test_slow_pages_do_not_delay_the_reads_of_a_run(store: Store) -> None:
    """The console uses separate threads, so many slow pages do not occupy the threads of the pipeline."""
    release = threading.Event()
    pages = [asyncio.create_task(store.view(lambda connection: release.wait(100))) for _ in range(20)]
    try:
        async with asyncio.timeout(DEADLINE):
            assert await store.read(lambda connection: 1) == 1
            assert await store.write(lambda tx: 1) == 1
    finally:
        release.set()
        await asyncio.gather(*pages)
