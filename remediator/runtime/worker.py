"""The loops that keep the line moving: take in, advance runs, close episodes. Supervised: an error never ends one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import structlog

from remediator.core.run import Run
from remediator.errors import Fenced, StoreError
from remediator.pipeline.context import PipelineContext
from remediator.pipeline.ingest import IntakeSettings, close_due, take_in
from remediator.pipeline.match import Index
from remediator.pipeline.stages import advance
from remediator.playbooks.model import Playbook
from remediator.storage import TOPIC_NOTIFICATIONS, TOPIC_RUNS, Tx
from remediator.storage.repositories import episodes, playbooks, runs

_LONG = 30.0
_BREATH = timedelta(milliseconds=50)
log: Any = structlog.get_logger("remediator.runtime.worker")


@dataclass(slots=True)
class Worker:
    """The loops of one replica.

    Args:
        engine: what the verbs are given.
        index: the playbooks in force, for matching; replaced on reload.
        intake: how alerts become episodes.
        concurrency: most runs worked on at once by this replica.
        poll: seconds between looks when nothing woke us; only a safety net, or another replica's doing.
    """

    context: PipelineContext
    index: Index
    intake: IntakeSettings
    concurrency: int = 16
    poll: float = 1.0
    _busy: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    """The runs that are worked on here, by id."""

    async def run_ingest_loop(self) -> None:
        """Fold notifications as they come; in a flood, leave most of the time to those that still arrive."""
        time = asyncio.get_running_loop().time  # a clock that is put right meanwhile must not be slept through
        wakeups = self.context.store.wakeups
        while True:
            wakeups.consume(TOPIC_NOTIFICATIONS)  # whatever was announced until now, this turn sees
            begun = time()
            taken = await take_in(self.context, self.index, self.intake)
            if taken < 0:
                await wakeups.wait(TOPIC_NOTIFICATIONS, self.poll)
            elif taken >= self.intake.chunk and wakeups.consume(TOPIC_NOTIFICATIONS):
                await self.context.clock.sleep(4 * (time() - begun))

    async def run_close_loop(self) -> None:
        """Close episodes when their quiet time is over."""
        while True:
            await close_due(self.context)
            due = await self.context.store.read(episodes.next_close_at)
            await self._sleep_until(due)

    async def _sleep_until(self, due: Any) -> None:
        left = self.poll if due is None else (due - self.context.clock.now()).total_seconds()
        await self.context.clock.sleep(min(max(left, 0.05), self.poll))

    async def run_advance_loop(self) -> None:
        """Claim runs that are due and move each on until it waits."""
        store = self.context.store
        try:
            while True:
                free = self.concurrency - len(self._busy)
                claimed = await self._claim(free) if free > 0 else []
                for run in claimed:
                    self._start(run)
                if not claimed:
                    await store.wakeups.wait(TOPIC_RUNS, await self._until_next() if free > 0 else self.poll)
        finally:
            await self._drain()

    async def _claim(self, limit: int) -> list[Run]:
        lease, busy = self.context.timeouts.lease, tuple(self._busy)
        return await self.context.store.write(lambda tx: runs.claim_due(tx, self.context.replica, lease, limit, busy))

    async def _until_next(self) -> float:
        busy = tuple(self._busy)
        due = await self.context.store.read(lambda connection: runs.next_wake_at(connection, busy))
        if due is None:
            return self.poll
        return min(max((due - self.context.clock.now()).total_seconds(), 0.005), self.poll)

    def _start(self, run: Run) -> None:
        task = asyncio.create_task(self._work(run), name=f"run {run.id}")
        self._busy[run.id] = task
        task.add_done_callback(lambda _: self._done(run.id))

    def _done(self, run_id: str) -> None:
        del self._busy[run_id]
        self.context.store.wakeups.set({TOPIC_RUNS})

    async def _drain(self) -> None:
        """Stopping: let what is being done end, within its own timeouts; it is never torn apart half-way."""
        if self._busy:
            await asyncio.gather(*self._busy.values(), return_exceptions=True)

    async def _work(self, run: Run) -> None:
        claimed = run
        keeper = asyncio.create_task(self._keep(run), name=f"lease of {run.id}")
        try:
            await ensure_playbook(self.context, run)
            await self._advance_until_wait(run)
        except Fenced as error:
            log.warning("claim lost", run=run.id, message=str(error))
        except StoreError as error:
            log.warning("store unavailable; the claim lapses by itself", run=run.id, message=str(error))
        except Exception:
            log.exception("a defect stopped this run for now", run=run.id)
            await self._set_aside(claimed)
        finally:
            keeper.cancel()

    async def _keep(self, run: Run) -> None:
        """Prolong the claim while a verb works: planning and looking may take longer than a lease. A process that is
        paused or cut off does not prolong, and is succeeded."""
        lease = self.context.timeouts.lease
        while True:
            await self.context.clock.sleep(lease.total_seconds() / 3)
            try:
                await self.context.store.write(lambda tx: runs.renew_lease(tx, run, lease))
            except Fenced:
                return  # the verb finds out by its next write
            except StoreError:
                continue

    async def _advance_until_wait(self, run: Run) -> None:
        while True:
            before, wakeup_count = run.status, run.wakeup_count
            progress = await advance(self.context, run)
            run = progress.run
            if run.status is not before:
                self.context.on_event("transition", run, {"from": before.value})
            if progress.waits:
                if run.finished_at is None:
                    until = self._not_at_once(progress.until)
                    await self.context.store.write(lambda tx: runs.release(tx, run, until, wakeup_count))  # noqa: B023
                return

    def _not_at_once(self, until: datetime | None) -> datetime | None:
        """A verb that waits for what should be over already (a clock, another loop) must not turn in circles."""
        return None if until is None else max(until, self.context.clock.now() + _BREATH)

    async def _set_aside(self, run: Run) -> None:
        later = self.context.clock.now() + timedelta(seconds=30)
        try:
            await self.context.store.write(lambda tx: _release(tx, run, later))
        except StoreError as error:
            log.warning("the claim lapses by itself", run=run.id, message=str(error))


def _release(tx: Tx, run: Run, later: datetime) -> None:
    current = runs.get(tx.connection, run.id, lock=True)
    if current is not None and current.fence == run.fence and current.lease_owner == run.lease_owner:
        runs.release(tx, current, later, current.wakeup_count)


async def ensure_playbook(context: PipelineContext, run: Run) -> None:
    """Make the version that a run began with known, should the files have moved on."""
    if not context.playbooks.has_version(run.playbook_hash):
        content = await context.store.read(lambda connection: playbooks.get_content(connection, run.playbook_hash))
        if content is not None:
            context.playbooks.add_version(Playbook.model_validate(content))


async def run_supervised(
    name: str, loop: Callable[[], Awaitable[None]], clock_sleep: Callable[[float], Awaitable[None]]
) -> None:
    """Run a loop for ever; when it fails, say so and start it again, slower each time up to half a minute."""
    pause = 0.1
    time = asyncio.get_running_loop().time
    while True:
        begun = time()
        try:
            await loop()
        except StoreError as error:
            log.warning("loop waits for the store", loop=name, message=str(error), again_in=pause)
        except Exception:
            log.exception("loop failed and is started again", loop=name, again_in=pause)
        if time() - begun > _LONG:
            pause = 0.1  # it worked for a while: this is another trouble than the last
        await clock_sleep(pause)
        pause = min(pause * 2, 30.0)
