"""A run can be cancelled in every status: at once, or after an outcome in progress is known."""

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
"""A run with an unknown outcome is first observed, and then cancelled from ``running`` or by a person."""


def test_every_open_status_can_be_cancelled() -> None:
    """The table of transitions allows it for each open status."""
    assert all(Status.CANCELLED in TRANSITIONS[status] for status in OPEN)


@pytest.mark.parametrize("status", AT_ONCE)
async def test_cancel_in_every_status(store: Store, status: Status) -> None:
    """A run with a cancel request is due at once and ends as cancelled; a second request changes nothing."""
    context = context_on(store)
    await store.write(lambda tx: runs.create(tx, "run-1", "p", "h", "t", "auto", "test"))
    await store.write(lambda tx: tx.connection.execute(update(table).values(status=status.value, wake_at=None)))
    assert await store.write(lambda tx: runs.request_cancel(tx, "run-1", "user:ann", "by hand"))
    [run] = await store.write(lambda tx: run_claims.claim_due(tx, "test", timedelta(minutes=1), 5))
    progress = await advance(context, run)
    assert (progress.run.status, progress.run.reason) == (Status.CANCELLED, "cancelled")
    assert progress.run.detail.who == "user:ann"
    assert not await store.write(lambda tx: runs.request_cancel(tx, "run-1", "user:eve", "again"))
