"""Replay a history through the pipeline, on a virtual clock that jumps from one event to the next."""

from __future__ import annotations

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select

from remediator.authoring.backtest import BacktestResult, Event, History, ReplayedRun, fakes
from remediator.authoring.simulation import log_events
from remediator.authoring.simulation.memory_store import Database, MemoryStore
from remediator.authoring.simulation.virtual_loop import VirtualLoop
from remediator.config import Config
from remediator.core.ids import Ids
from remediator.core.run import Run, Status
from remediator.core.run_detail import BlockedDetail
from remediator.extensions.clientset import ClientSet
from remediator.extensions.guard_settings import guard_defaults, guards_on
from remediator.extensions.registry import Registry
from remediator.pipeline.closing import close_due_episodes
from remediator.pipeline.context import PipelineContext, PlaybookSet, Timeouts
from remediator.pipeline.match import Index
from remediator.playbooks.loader import LoadedConfig
from remediator.runtime.worker import Worker
from remediator.service import ingest_settings
from remediator.storage.repositories import approvals, playbooks, runs
from remediator.storage.repositories.episodes import next_close_at
from remediator.storage.schema import episodes

EVALUATED_GUARDS = frozenset(
    {"freeze", "cooldown", "rate_limit", "concurrency", "ramp", "storm", "circuit_breaker", "autonomy"}
)
"""The guards that depend only on time and on past runs, which a history contains."""
APPROVAL_DELAY = timedelta(minutes=2)
"""Assumed time from an approval request to the approval."""
TIME_AFTER_END = timedelta(hours=2)
"""Time for runs to end after the end of the history."""
_POLL = 3600.0
_MOMENT = 0.01
_RECHECK = timedelta(seconds=15)
"""Minimum interval between guard evaluations of a blocked run, so that a month of history stays fast."""


def replay(
    history: History,
    loaded: LoadedConfig,
    config: Config,
    progress: Callable[[Sequence[Event]], Iterable[Event]] = iter,
) -> BacktestResult:
    """Replay a history with these playbooks. Nothing real is changed; the clock is virtual.

    Args:
        history: the received alerts, with times.
        loaded: the playbooks and the inventory.
        config: the settings.
        progress: yields the events of the history, and may show how many it has yielded.
    """
    loop = VirtualLoop(random.Random(0))  # noqa: S311 - one order of many
    asyncio.set_event_loop(loop)
    backtest = _Backtest(history, loaded, config, loop)
    with log_events.given_to():
        try:
            loop.run_until_complete(backtest.run(progress(history.events)))
            return backtest.result()
        finally:
            backtest.end()
            asyncio.set_event_loop(None)


class _Backtest:
    def __init__(self, history: History, loaded: LoadedConfig, config: Config, loop: VirtualLoop) -> None:
        self.history, self.loaded, self.config, self.loop = history, loaded, config, loop
        self.database = Database(loop, history.start)
        self.store = MemoryStore(self.database)
        self.database.stores.append(self.store)
        self.calls: dict[str, list[str]] = defaultdict(list)
        self.approval_requests: Counter[str] = Counter()
        self.blocked_by: dict[str, set[str]] = defaultdict(set)
        self.tasks: set[asyncio.Task[Any]] = set()
        self.context = self._context()

    def _context(self) -> PipelineContext:
        config, loaded, clock = self.config, self.loaded, self.database.clock
        timing = config.timing
        registry = Registry.for_settings(config)
        clients = ClientSet(
            clock=clock,
            folder=config.base_dir,
            inventory=lambda: loaded.inventory,
            commands=config.commands,
            requests=config.requests,
        )
        guards = guards_on(config, registry.make_guards(clients))
        return PipelineContext(
            store=self.store,
            clock=clock,
            ids=Ids(random.Random(0)),  # noqa: S311 - the same ids every time
            replica="history",
            playbooks=PlaybookSet(loaded.playbooks, loaded.inventory, config.environment),
            actions=fakes.actions(registry.actions, lambda run, call: self.calls[run].append(call), clients),
            checks=fakes.checks(registry.checks, lambda run: bool(self.calls.get(run))),
            guards=tuple(guard for guard in guards if guard.name in EVALUATED_GUARDS),
            guard_defaults=guard_defaults(config, registry.guards),
            timeouts=Timeouts(
                lease=timing.lease,
                guard_recheck_interval=max(timing.guard_recheck_interval, _RECHECK),
                # only runs change the blocking conditions, and the end of a run schedules the runs that waited for it
                max_guard_recheck_interval=self.history.end - self.history.start,
                run_timeout=timing.run_timeout,
                recurrence_window=timing.recurrence_window,
                incident_window=timing.incident_window,
            ),
            on_event=self._on_event,
        )

    def _on_event(self, kind: str, run: Run, data: Mapping[str, Any]) -> None:
        if kind != "transition":
            return
        if isinstance(run.detail, BlockedDetail) and run.detail.guard:
            self.blocked_by[run.id].add(run.detail.guard)
        if run.status is Status.AWAITING_APPROVAL:
            self.approval_requests[run.id] += 1
            self._spawn(self._approve(run.id))

    def _spawn(self, work: Any) -> None:
        task = self.loop.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _approve(self, run_id: str) -> None:
        await asyncio.sleep(APPROVAL_DELAY.total_seconds())
        for item in self.database.look(approvals.list_pending):
            if item.run_id == run_id:
                for number in range(10):  # enough people for the largest quorum
                    who = f"user:history-{number}"
                    decision = approvals.Decision(who, "approve", self.database.now, None, "assumed")
                    await self.store.write(
                        lambda tx, i=item, d=decision: approvals.decide(tx, i, i.plan_hash, d)  # type: ignore[misc]
                    )

    async def run(self, events: Iterable[Event]) -> None:
        """Replay the events of the history, and wait until the runs have ended."""
        await self.store.write(lambda tx: playbooks.add_versions(tx, self.loaded.playbooks))
        index = Index(self.loaded.playbooks, self.config.watchdog.alertname)
        sources = Registry.for_settings(self.config).make_sources(self.config)
        loops = Worker(self.context, index, ingest_settings(self.config, sources), 16, _POLL)
        for loop in (loops.run_ingest_loop, loops.run_advance_loop):
            self._spawn(loop())
        for event in events:
            await self._until(event.at)
            await self.store.accept(event.source, event.body)
        await self._until(self.history.end + TIME_AFTER_END)

    async def _until(self, at: datetime) -> None:
        """Advance the clock, and close each episode exactly when it is due. A polling loop would miss long jumps."""
        await asyncio.sleep(_MOMENT)  # let the ingest loop take the last notification first
        while (due := self.database.look(next_close_at)) is not None and due < at:
            await asyncio.sleep(max(_MOMENT, (due - self.database.now).total_seconds()))
            await close_due_episodes(self.context)
        await asyncio.sleep(max(0.0, (at - self.database.now).total_seconds()))
        failed = [task for task in self.tasks if task.done()]
        for task in failed:
            task.result()

    def result(self) -> BacktestResult:
        """Return the result."""
        found: Sequence[Run] = self.database.look(lambda connection: runs.list_page(connection, 1_000_000))
        made = [
            ReplayedRun(
                at=run.created_at,
                playbook=run.playbook,
                target=run.target,
                actions=tuple(self.calls.get(run.id, ())),
                approval_requests=self.approval_requests[run.id],
                blocked_by=frozenset(self.blocked_by.get(run.id, ())),
            )
            for run in found
        ]
        alerts = self.database.look(
            lambda connection: [dict(labels) for labels in connection.execute(select(episodes.c.labels)).scalars()]
        )
        matching = Index(self.loaded.playbooks, self.config.watchdog.alertname)
        unmatched = Counter(labels.get("alertname", "") for labels in alerts if not matching.match(labels))
        ordered = tuple(sorted(made, key=lambda run: (run.at, run.playbook, run.target)))
        return BacktestResult(self.history, ordered, len(alerts), dict(unmatched))

    def end(self) -> None:
        """Cancel all tasks and close the database."""
        self.loop.end()
        self.database.close()
