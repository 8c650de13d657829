"""The loops that run the pipeline: process notifications, advance runs, close episodes. An error never ends a loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import structlog

from remediator.core import progress, trace_context
from remediator.core.run import Episode, Run
from remediator.errors import Fenced, StoreError
from remediator.pipeline.closing import close_due_episodes
from remediator.pipeline.context import PipelineContext
from remediator.pipeline.ingest import InboxTurn, IngestSettings, process_inbox
from remediator.pipeline.match import Index
from remediator.pipeline.run_context import Origin
from remediator.pipeline.stages import advance
from remediator.playbooks.model import Playbook
from remediator.runtime.health import Health
from remediator.storage import TOPIC_NOTIFICATIONS, TOPIC_RUNS, Tx
from remediator.storage.repositories import episodes, playbooks, run_claims, runs

_HEALTHY_AFTER = 30.0  # seconds; a loop that ran for longer restarts with the shortest pause again
_MIN_WAIT = timedelta(milliseconds=50)
_MIN_POLL = 0.005  # seconds
_MIN_PAUSE, _MAX_PAUSE = 0.02, 1.0  # seconds between evaluations of a run that change nothing
_RETRY_AFTER_DEFECT = timedelta(seconds=30)
log: Any = structlog.get_logger("remediator.runtime.worker")


@dataclass(slots=True)
class Worker:
    """The loops of one replica.

    Args:
        context: the dependencies of the pipeline.
        index: the active playbooks, for matching; replaced when files are reloaded.
        ingest: how alerts become episodes.
        concurrency: most runs that this replica processes at a time.
        poll: seconds between two checks without a wake-up, which may be lost.
    """

    context: PipelineContext
    index: Index
    ingest: IngestSettings
    concurrency: int = 16
    poll: float = 1.0
    _busy: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    """The runs that this replica processes, by ID."""
    _takes_new: bool = False
    """Whether this replica advances runs now."""
    _has_backlog: bool = True
    """Whether older runs may be due that this replica has not claimed."""

    @property
    def in_flight(self) -> tuple[str, ...]:
        """Return the IDs of the runs that this replica is processing now."""
        return tuple(self._busy)

    async def run_ingest_loop(self) -> None:
        """Process notifications as they arrive. In a flood, leave most of the time to accepting new ones."""
        time = asyncio.get_running_loop().time  # monotonic: a correction of the clock must not prolong the pause
        wakeups = self.context.store.wakeups
        while True:
            progress.report()
            wakeups.consume(TOPIC_NOTIFICATIONS)  # this turn sees everything that was announced until now
            begun = time()
            # the number of new runs that may be claimed at their creation: 0 while older runs wait
            turn = InboxTurn(0 if self._has_backlog or not self._takes_new else self.concurrency - len(self._busy))
            processed = await process_inbox(self.context, self.index, self.ingest, turn)
            for new in turn.claimed:
                self._start(new.run, Origin.CREATED, new.alerts)
            if processed < 0 or turn.drained:
                await wakeups.wait(TOPIC_NOTIFICATIONS, self.poll)
            elif processed >= self.ingest.batch_size and wakeups.consume(TOPIC_NOTIFICATIONS):
                await self.context.clock.sleep(4 * (time() - begun))

    async def run_close_loop(self) -> None:
        """Close episodes when their resolve_grace is over."""
        while True:
            due = await self.context.store.read(episodes.next_close_at)
            left = self.poll if due is None else (due - self.context.clock.now()).total_seconds()
            if left <= 0:
                await close_due_episodes(self.context)
            progress.report()
            await self.context.clock.sleep(min(max(left, 0.05), self.poll))

    async def run_advance_loop(self) -> None:
        """Claim due runs and advance each until it waits."""
        store, self._takes_new = self.context.store, True
        try:
            while True:
                store.wakeups.consume(TOPIC_RUNS)
                free = self.concurrency - len(self._busy)
                wait = await self._until_next() if free > 0 else self.poll
                claimed = await self._claim(free) if wait <= 0 else []
                self._has_backlog = free <= 0 or len(claimed) == free
                for run in claimed:
                    self._start(run, Origin.CLAIMED)
                progress.report()
                if not claimed:
                    await store.wakeups.wait(TOPIC_RUNS, max(wait, _MIN_POLL))
        finally:
            self._takes_new = False
            # Shutdown: let the current calls end within their own timeouts, so that none is cut off half-way.
            if self._busy:
                await asyncio.gather(*self._busy.values(), return_exceptions=True)

    async def _claim(self, most: int) -> list[Run]:
        replica, lease, busy = self.context.replica, self.context.timeouts.lease, tuple(self._busy)
        return await self.context.store.write(lambda tx: run_claims.claim_due(tx, replica, lease, most, busy))

    async def _until_next(self) -> float:
        """Return the seconds until a run is due, at most until the next poll; 0 or less if a run is due now."""
        busy, now = tuple(self._busy), self.context.clock.now()
        due = await self.context.store.read(lambda connection: run_claims.next_wake_at(connection, now, busy))
        return self.poll if due is None else min((due - now).total_seconds(), self.poll)

    def _start(self, run: Run, origin: Origin, alerts: Sequence[Episode] = ()) -> None:
        def done(task: asyncio.Task[None]) -> None:
            del self._busy[run.id]
            self.context.store.wakeups.set({TOPIC_RUNS})

        task = asyncio.create_task(self._process(run, origin, alerts), name=f"run {run.id}")
        self._busy[run.id] = task
        task.add_done_callback(done)

    async def _process(self, claimed: Run, origin: Origin, alerts: Sequence[Episode]) -> None:
        trace_context.follow(claimed.id)
        keeper = asyncio.create_task(self._keep_lease(claimed), name=f"lease of {claimed.id}")
        try:
            # add the playbook version with which the run started, if the files have changed since
            known = self.context.playbooks
            if not known.has_version(claimed.playbook_hash):
                content = await self.context.store.read(
                    lambda connection: playbooks.get_content(connection, claimed.playbook_hash)
                )
                if content is not None:
                    known.add_version(Playbook.model_validate(content))
            await self._advance_until_wait(claimed, origin, alerts)
        except Fenced as error:
            log.warning("claim lost", run=claimed.id, message=str(error))
        except StoreError as error:
            log.warning("store unavailable, claim expires", run=claimed.id, message=str(error))
        except Exception:
            retry_in = _RETRY_AFTER_DEFECT.total_seconds()
            log.exception("internal error while processing the run, retrying", run=claimed.id, retry_in_s=retry_in)
            await self._release_after_defect(claimed)
        finally:
            keeper.cancel()

    async def _keep_lease(self, run: Run) -> None:
        """Renew the lease while a stage works, because planning and checks may take longer than a lease.

        A process that is paused or cut off does not renew it, and another replica takes the run over.
        """
        lease = self.context.timeouts.lease
        while True:
            await self.context.clock.sleep(lease.total_seconds() / 3)
            try:
                await self.context.store.write(lambda tx: run_claims.renew_lease(tx, run, lease))
            except Fenced:
                return  # the stage gets the same error with its next write
            except StoreError:
                continue

    async def _advance_until_wait(self, run: Run, origin: Origin, alerts: Sequence[Episode]) -> None:
        pause = _MIN_PAUSE
        while True:
            wakeup_count, before = run.wakeup_count, (run.status, run.cursor)
            result = await advance(self.context, run, origin, alerts)
            run, origin = result.run, Origin.CONTINUED
            if not result.waits and (run.status, run.cursor) == before:
                # In a storm, each alert that joins the run stops its intent. Without a pause, the evaluations of all
                # runs would take the time in which the alerts could be processed.
                await self.context.clock.sleep(pause)
                pause = min(pause * 2, _MAX_PAUSE)
            if result.waits:
                if run.finished_at is None:
                    until = result.until
                    if until is not None:  # an instant in the past must not make the run loop without a pause
                        until = max(until, self.context.clock.now() + _MIN_WAIT)
                    await self.context.store.write(lambda tx: run_claims.release(tx, run, until, wakeup_count))  # noqa: B023
                return

    async def _release_after_defect(self, run: Run) -> None:
        """Release the claim until later, if it is still this process's claim."""
        later = self.context.clock.now() + _RETRY_AFTER_DEFECT

        def release(tx: Tx) -> None:
            current = runs.get(tx.connection, run.id, lock=True)
            if current is not None and current.fence == run.fence and current.lease_owner == run.lease_owner:
                run_claims.release(tx, current, later, current.wakeup_count)

        try:
            await self.context.store.write(release)
        except StoreError as error:
            log.warning("store unavailable, claim expires", run=run.id, message=str(error))


async def run_supervised(
    name: str,
    loop: Callable[[], Awaitable[None]],
    clock_sleep: Callable[[float], Awaitable[None]],
    health: Health | None = None,
) -> None:
    """Run a loop forever. If it fails, log the error and restart it, after a pause that grows up to 30 seconds.

    Args:
        name: the name of the loop, for logs and health.
        loop: the loop; it reports its progress.
        clock_sleep: waits for some seconds.
        health: notices a loop that makes no progress.
    """
    health = health or Health()
    health.watch_loop(name)
    pause = 0.1
    time = asyncio.get_running_loop().time
    while True:
        begun = time()
        try:
            await loop()
        except StoreError as error:
            log.warning("store unavailable, retrying", loop=name, message=str(error), retry_in_s=pause)
            health.loop_failed(name, error)
        except Exception as error:
            log.exception("loop failed, restarting", loop=name, retry_in_s=pause)
            health.loop_failed(name, error)
        if time() - begun > _HEALTHY_AFTER:
            pause = 0.1  # the loop worked for a while, so this is a new problem
        await clock_sleep(pause)
        pause = min(pause * 2, 30.0)
