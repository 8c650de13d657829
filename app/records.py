"""The record: items in SQLite, the truth that the cache copies.

Several workers share the file (WAL, one writer at a time, waits bounded by `BUSY_SECONDS`). All work is done by a few
threads of its own, so that neither a lock nor a disk holds up the event loop.

Each change also leaves a row in `stale` in the same transaction: "the cache may still hold the old item". The row goes
when the cache has been told. So no crash and no outage between the commit and the telling leaves the cache wrong.
"""

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, TypeVar

from app.items import Item, ItemDraft

T = TypeVar("T")
BUSY_SECONDS = 5.0
THREADS = 4
SCHEMA = (
    """CREATE TABLE IF NOT EXISTS item (
         id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, description TEXT NOT NULL,
         price_cents INTEGER NOT NULL, version INTEGER NOT NULL) STRICT""",
    "CREATE TABLE IF NOT EXISTS stale (id INTEGER PRIMARY KEY AUTOINCREMENT, item_id INTEGER NOT NULL) STRICT",
)
SELECT = "SELECT id, name, description, price_cents, version FROM item WHERE id = ?"
PAGE = "SELECT id, name, description, price_cents, version FROM item WHERE id > ? ORDER BY id LIMIT ?"
INSERT = """INSERT INTO item (name, description, price_cents, version) VALUES (?, ?, ?, 1)
            RETURNING id, name, description, price_cents, version"""
UPDATE = """UPDATE item SET name = ?, description = ?, price_cents = ?, version = version + 1 WHERE id = ?
            RETURNING id, name, description, price_cents, version"""
DELETE = "DELETE FROM item WHERE id = ? RETURNING id, name, description, price_cents, version"
STALE = "SELECT id, item_id FROM stale ORDER BY id LIMIT ?"
MARK = "INSERT INTO stale (item_id) VALUES (?) RETURNING id"
SETTLE = "DELETE FROM stale WHERE id = ?"


class Stale(NamedTuple):
    """The cache may hold an old copy of `item_id`; `id` is the row that says so."""

    id: int
    item_id: int


class Change(NamedTuple):
    """A committed change: the item as written, or as it was before it was deleted."""

    item: Item
    stale: Stale


class Records:
    """One per worker. Every method raises sqlite3.Error when the file cannot be read or written."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="record")
        self._local = threading.local()
        self._connections: list[sqlite3.Connection] = []

    async def open(self) -> None:
        """Makes file and tables unless they are there."""
        await self._run(_create)

    async def close(self) -> None:
        await asyncio.to_thread(self._threads.shutdown)
        for connection in self._connections:
            connection.close()

    async def get(self, item_id: int) -> Item | None:
        rows = await self._run(lambda connection: connection.execute(SELECT, (item_id,)).fetchall())
        return _item(rows[0]) if rows else None

    async def page(self, after: int, limit: int) -> list[Item]:
        """Up to `limit` items with an id above `after`, by id."""
        rows = await self._run(lambda connection: connection.execute(PAGE, (after, limit)).fetchall())
        return [_item(row) for row in rows]

    async def create(self, draft: ItemDraft) -> Change:
        change = await self._change(INSERT, (draft.name, draft.description, draft.price_cents))
        if change is None:
            raise sqlite3.DatabaseError("an insert returned no row")
        return change

    async def update(self, item_id: int, draft: ItemDraft) -> Change | None:
        """None: there is no such item."""
        return await self._change(UPDATE, (draft.name, draft.description, draft.price_cents, item_id))

    async def delete(self, item_id: int) -> Change | None:
        """None: there is no such item."""
        return await self._change(DELETE, (item_id,))

    async def stale(self, limit: int) -> list[Stale]:
        """The oldest changes that the cache may not know of."""
        rows = await self._run(lambda connection: connection.execute(STALE, (limit,)).fetchall())
        return [Stale(*row) for row in rows]

    async def settle(self, told: Sequence[Stale]) -> None:
        """The cache has been told of these changes."""
        rows = [(row.id,) for row in told]
        await self._run(lambda connection: _write(connection, lambda: connection.executemany(SETTLE, rows)))

    async def ping(self) -> None:
        """Reads one row."""
        await self.page(0, 1)

    async def _change(self, statement: str, values: tuple[object, ...]) -> Change | None:
        def work(connection: sqlite3.Connection) -> Change | None:
            rows = connection.execute(statement, values).fetchall()
            if not rows:
                return None
            item = _item(rows[0])
            row = connection.execute(MARK, (item.id,)).fetchall()[0]
            return Change(item, Stale(row[0], item.id))

        return await self._run(lambda connection: _write(connection, lambda: work(connection)))

    async def _run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, lambda: work(self._connection()))

    def _connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = _connect(self._file)
            self._connections.append(connection)
            self._local.connection = connection
        return connection


def _connect(file: Path) -> sqlite3.Connection:
    # Each thread has its own connection; only `close` touches another thread's, when all threads have ended.
    connection = sqlite3.connect(file, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA synchronous = FULL")
    return connection


def _create(connection: sqlite3.Connection) -> None:
    _switch_to_wal(connection)
    _write(connection, lambda: [connection.execute(statement) for statement in SCHEMA])


def _switch_to_wal(connection: sqlite3.Connection) -> None:
    """SQLite does not wait for its busy timeout here, so workers that start together would fail: wait for it."""
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return


def _write(connection: sqlite3.Connection, work: Callable[[], T]) -> T:
    """One transaction. IMMEDIATE: a read lock that is upgraded later can fail without waiting."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        result = work()
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return result


def _item(row: tuple[int, str, str, int, int]) -> Item:
    return Item(id=row[0], name=row[1], description=row[2], price_cents=row[3], version=row[4])
