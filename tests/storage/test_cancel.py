"""A run can be cancelled whatever state it is in: at once where nothing is under way, else once that is known."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import update

from remediator.core.run import OPEN, TRANSITIONS, Status
from remediator.pipeline.stages import advance
from remediator.storage import Store
from remediator.storage.repositories import run_claims, runs
from remediator.storage.schema import runs as table
from tests.storage.test_intake import context_on

AT_ONCE = sorted(OPEN - {Status.UNKNOWN_OUTCOME})
"""What an unknown outcome waits for is the observation; then it is cancelled from ``running`` or by people."""


def test_every_open_status_can_be_cancelled() -> None:
    """The table of transitions has it for each of them."""
    assert all(Status.CANCELLED in TRANSITIONS[status] for status in OPEN)


@pytest.mark.parametrize("status", AT_ONCE)
async def test_cancel_in_every_status(store: Store, status: Status) -> None:
    """Asked for by name and with a reason, it is due at once, and ends cancelled; asked again, it changes nothing."""
    context = context_on(store)
    await store.write(lambda tx: runs.create(tx, "run-1", "p", "h", "t", "auto", "test"))
    await store.write(lambda tx: tx.connection.execute(update(table).values(status=status.value, wake_at=None)))
    assert await store.write(lambda tx: runs.request_cancel(tx, "run-1", "user:ann", "by hand"))
    [run] = await store.write(lambda tx: run_claims.claim_due(tx, "test", timedelta(minutes=1), 5))
    progress = await advance(context, run)
    assert (progress.run.status, progress.run.reason) == (Status.CANCELLED, "cancelled")
    assert progress.run.detail.who == "user:ann"
    assert not await store.write(lambda tx: runs.request_cancel(tx, "run-1", "user:eve", "again"))
