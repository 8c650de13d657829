"""Several workers can use the record at once, and it never blocks the event loop."""

import asyncio
import sqlite3
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from app.items import ItemDraft
from app.records import Records

DRAFT = ItemDraft(name="lamp", price_cents=1)
PROCESSES = 4
CHANGES = 25


def work_as_a_worker(file: Path) -> int:
    """Run one worker process: open the record, create one item, and change item 1 many times."""

    async def work() -> int:
        records = Records(file)
        await records.open()
        made = await records.create(DRAFT)
        for _ in range(CHANGES):
            await records.update(1, DRAFT)
        await records.close()
        return made.item.id

    return asyncio.run(work())


async def test_workers_share_the_file(tmp_path: Path) -> None:
    """Workers that start together without a file, and then write together, lose no change and get no lock error."""
    file = tmp_path / "app.sqlite3"
    with ProcessPoolExecutor(PROCESSES, mp_context=get_context("spawn")) as pool:
        made = await asyncio.gather(
            *(asyncio.get_running_loop().run_in_executor(pool, work_as_a_worker, file) for _ in range(PROCESSES))
        )
    records = Records(file)
    await records.open()
    first = await records.get(1)
    assert sorted(made) == list(range(1, PROCESSES + 1))
    assert first is not None and first.version == 1 + PROCESSES * CHANGES
    assert len(await records.stale(1000)) == PROCESSES * (CHANGES + 1)
    await records.close()


async def test_locked_record_does_not_block_the_loop(tmp_path: Path) -> None:
    """While another process holds the write lock, a write waits in its thread, and the event loop continues."""
    records = Records(tmp_path / "app.sqlite3")
    await records.open()
    other = sqlite3.connect(tmp_path / "app.sqlite3", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    write = asyncio.create_task(records.create(DRAFT))
    for _ in range(20):
        await asyncio.wait_for(asyncio.sleep(0), 1)
        assert await records.page(0, 10) == []
    assert not write.done()
    other.execute("ROLLBACK")
    other.close()
    assert (await write).item.id == 1
    await records.close()


async def test_failed_change_leaves_nothing(tmp_path: Path) -> None:
    """If a transaction fails, neither the change nor its marker is written."""
    records = Records(tmp_path / "app.sqlite3")
    await records.open()
    await records._run(lambda connection: connection.execute("ALTER TABLE stale RENAME TO away"))
    with pytest.raises(sqlite3.OperationalError):
        await records.create(DRAFT)
    assert await records.page(0, 10) == []
    await records.close()
