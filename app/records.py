"""The record: items in SQLite, the source of the cache.

Several workers share the file (WAL, one writer at a time, waits of at most `BUSY_SECONDS`). Separate threads do all
work, so that neither locks nor the disk block the event loop.

Each change also writes a marker to `stale` in the same transaction: the cache may still hold the old item. The marker
is deleted after the cache entry is invalidated. A crash or outage in between therefore never leaves a wrong copy.
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
    """A marker: the cache may contain an old copy of `item_id`. `id` is the row of the marker."""

    id: int
    item_id: int


class Change(NamedTuple):
    """A committed change: the item after it, or before its deletion."""

    item: Item
    stale: Stale


class Records:
    """The record; one per worker. Every method raises sqlite3.Error if the file cannot be read or written."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="record")
        self._local = threading.local()
        self._connections: list[sqlite3.Connection] = []

    async def open(self) -> None:
        """Create the file and the tables if they do not exist."""
        await self._run(_create)

    async def close(self) -> None:
        await asyncio.to_thread(self._threads.shutdown)
        for connection in self._connections:
            connection.close()

    async def get(self, item_id: int) -> Item | None:
        rows = await self._run(lambda connection: connection.execute(SELECT, (item_id,)).fetchall())
        return _item(rows[0]) if rows else None

    async def page(self, after: int, limit: int) -> list[Item]:
        """Return up to `limit` items with an ID above `after`, in the order of IDs."""
        rows = await self._run(lambda connection: connection.execute(PAGE, (after, limit)).fetchall())
        return [_item(row) for row in rows]

    async def create(self, draft: ItemDraft) -> Change:
        change = await self._change(INSERT, (draft.name, draft.description, draft.price_cents))
        if change is None:
            raise sqlite3.DatabaseError("an insert returned no row")
        return change

    async def update(self, item_id: int, draft: ItemDraft) -> Change | None:
        """Return None if the item does not exist."""
        return await self._change(UPDATE, (draft.name, draft.description, draft.price_cents, item_id))

    async def delete(self, item_id: int) -> Change | None:
        """Return None if the item does not exist."""
        return await self._change(DELETE, (item_id,))

    async def stale(self, limit: int) -> list[Stale]:
        """Return the oldest markers."""
        rows = await self._run(lambda connection: connection.execute(STALE, (limit,)).fetchall())
        return [Stale(*row) for row in rows]

    async def settle(self, invalidated: Sequence[Stale]) -> None:
        """Delete markers after their cache entries were invalidated."""
        rows = [(row.id,) for row in invalidated]
        await self._run(lambda connection: _write(connection, lambda: connection.executemany(SETTLE, rows)))

    async def ping(self) -> None:
        """Read one row."""
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
    # Each thread has its own connection. Only `close` uses those of other threads, after all threads have ended.
    connection = sqlite3.connect(file, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA synchronous = FULL")
    return connection


def _create(connection: sqlite3.Connection) -> None:
    _switch_to_wal(connection)
    _write(connection, lambda: [connection.execute(statement) for statement in SCHEMA])


def _switch_to_wal(connection: sqlite3.Connection) -> None:
    """Switch to WAL mode. SQLite ignores its busy timeout here, so workers that start together must retry."""
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
    """Run one transaction. It is IMMEDIATE, since upgrading a read lock can fail without waiting."""
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
