"""Old audit entries move from the database to sealed segments, and the whole log still verifies."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from remediator.audit import Draft, Kind, archive, keys, verify
from remediator.audit.verification import Anchors
from remediator.core.clock import SystemClock
from remediator.core.ids import Ids
from remediator.errors import StoreUnavailable
from remediator.extensions.clientset import NOTHING
from remediator.pipeline.context import PipelineContext, PlaybookSet
from remediator.runtime.checkpointing import LATEST_CHECKPOINT, CheckpointSettings, create_checkpoint
from remediator.runtime.retention import RetentionSettings, archive_segment, live_log_start
from remediator.storage import Store
from remediator.storage.repositories import audit, key_values

pytestmark = pytest.mark.promise(9)
SIZE = 100


class Later(SystemClock):
    """A clock that is a hundred days ahead, so every entry is old."""

    def now(self) -> datetime:
        """Return the time in a hundred days."""
        return super().now() + timedelta(days=100)


def context_on(store: Store) -> PipelineContext:
    """Return an engine for the audit log only."""
    book = PlaybookSet((), NOTHING, "test")
    return PipelineContext(
        store=store, clock=Later(), ids=Ids(), replica="test", playbooks=book, actions={}, checks={}, guards=()
    )


@pytest.fixture
def settings(tmp_path: Path) -> RetentionSettings:
    """Return settings with segments of a hundred entries that are older than a month."""
    return RetentionSettings(tmp_path / "archive", timedelta(days=30), SIZE)


@pytest.fixture
def signing(tmp_path: Path) -> Iterator[CheckpointSettings]:
    """Return a signing key without witnesses."""
    signer = keys.create(tmp_path / "audit.key", "remediator/test")
    yield CheckpointSettings("remediator/test", signer, {}, 10, timedelta(minutes=1))


async def fill(context: PipelineContext, count: int) -> None:
    """Append this number of entries."""
    for start in range(0, count, 50):
        drafts = [
            Draft(kind=Kind.OPERATOR_COMMAND, actor="test", data={"number": number})
            for number in range(start, min(start + 50, count))
        ]
        await context.store.write(lambda tx, all_=drafts: [tx.append_audit(draft) for draft in all_])  # type: ignore[misc]


async def sign(context: PipelineContext, signing: CheckpointSettings) -> None:
    """Sign a checkpoint of all entries."""
    await create_checkpoint(context, signing, await context.store.read(audit.get_head))


async def whole(context: PipelineContext, settings: RetentionSettings, signing: CheckpointSettings) -> Any:
    """Verify archive and database together, with the newest checkpoint."""
    fact = await context.store.read(lambda connection: key_values.get(connection, LATEST_CHECKPOINT))
    live = await context.store.read(lambda connection: list(audit.iterate(connection)))
    head = await context.store.read(audit.get_head)
    start, rows = archive.join_live(archive.list_segments(settings.folder), live)
    assert fact is not None
    return verify(rows, Anchors([fact.value["note"]], [signing.signer.verifier]), start=start, head=head, strict=True)


async def numbers(context: PipelineContext) -> list[int]:
    """Return the numbers of the entries in the database."""
    return [row.seq for row in await context.store.read(lambda connection: list(audit.iterate(connection)))]


async def test_old_entries_move_and_verify(
    store: Store, settings: RetentionSettings, signing: CheckpointSettings
) -> None:
    """Only whole segments move, the database starts after them, and a signed checkpoint covers both."""
    context = context_on(store)
    await fill(context, 250)
    await sign(context, signing)
    assert [await archive_segment(context, settings) for _ in range(3)] == [True, True, False]

    assert [segment.end.seq for segment in archive.list_segments(settings.folder)] == [100, 200]
    assert (await numbers(context))[0] == 201
    assert (await store.read(live_log_start)).seq == 200
    result = await whole(context, settings, signing)
    assert result.ok and result.checkpoints == (250,)


async def test_only_signed_entries_move(store: Store, settings: RetentionSettings, signing: CheckpointSettings) -> None:
    """Entries after the last checkpoint stay, because their archive could not be verified."""
    context = context_on(store)
    await fill(context, 250)
    assert not await archive_segment(context, settings)
    await sign(context, signing)
    await fill(context, 150)
    assert [await archive_segment(context, settings) for _ in range(3)] == [True, True, False]


async def test_young_entries_stay(store: Store, settings: RetentionSettings, signing: CheckpointSettings) -> None:
    """Entries stay for the time in the settings."""
    context = context_on(store)
    await fill(context, 250)
    await sign(context, signing)
    assert not await archive_segment(context, RetentionSettings(settings.folder, timedelta(days=101), SIZE))
    assert not settings.folder.exists()


async def test_a_crash_after_the_segment_is_written(
    store: Store, settings: RetentionSettings, signing: CheckpointSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is written and the entries still exist: both verify, and the next turn continues."""
    context = context_on(store)
    await fill(context, 150)
    await sign(context, signing)

    async def gone(work: Any) -> Any:
        raise StoreUnavailable("the process is gone")

    with monkeypatch.context() as patch:
        patch.setattr(store, "write", gone)
        with pytest.raises(StoreUnavailable):
            await archive_segment(context, settings)
    [segment] = archive.list_segments(settings.folder)
    assert segment.end.seq == SIZE and (await numbers(context))[0] == 1
    assert (await whole(context, settings, signing)).ok

    assert await archive_segment(context, settings)
    assert (await numbers(context))[0] == SIZE + 1
    assert (await whole(context, settings, signing)).ok


async def test_two_replicas_archive_a_segment_once(
    store: Store, settings: RetentionSettings, signing: CheckpointSettings
) -> None:
    """Both replicas write the same file; one deletes the entries, and the log records this once."""
    context = context_on(store)
    await fill(context, 150)
    await sign(context, signing)
    await asyncio.gather(*(archive_segment(context, settings) for _ in range(2)))
    live = await store.read(lambda connection: list(audit.iterate(connection)))
    assert [row.kind for row in live].count("archive.sealed") == 1
    assert (await whole(context, settings, signing)).ok


async def test_a_missing_segment_is_found(
    store: Store, settings: RetentionSettings, signing: CheckpointSettings
) -> None:
    """The error names the entries that are neither in the database nor in the archive."""
    context = context_on(store)
    await fill(context, 350)
    await sign(context, signing)
    while await archive_segment(context, settings):
        pass
    archive.list_segments(settings.folder)[1].path.unlink()
    result = await whole(context, settings, signing)
    assert not result.ok
    assert result.findings[0].seq == 101
