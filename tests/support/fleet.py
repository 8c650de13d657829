"""Many services and one remedy for them, run by the real engine on a real store.

Tests compare the limits of the guards with every action that was begun.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from sqlalchemy import select

from remediator.core.clock import Clock
from remediator.core.ids import Ids
from remediator.core.outcome import Outcome
from remediator.core.plan import PlannedCall
from remediator.core.run import Run
from remediator.extensions.actions.base import Action, Result
from remediator.extensions.checks.base import Check, CheckAnswer, Evidence
from remediator.extensions.clientset import ClientSet
from remediator.extensions.guards._rates import parse_rate
from remediator.extensions.parameters import Parameters
from remediator.extensions.registry import Registry
from remediator.pipeline.context import PipelineContext, PlaybookSet, StageResult, Timeouts
from remediator.pipeline.stages import advance
from remediator.playbooks.inventory import Inventory, Service
from remediator.playbooks.model import Playbook
from remediator.storage import Store
from remediator.storage.repositories import episodes, run_claims, runs, target_locks
from remediator.storage.schema import attempts as attempts_table
from tests.support.guard_history import INVENTORY, alert, playbook

WITHOUT_WORLD = ("watchdog", "still_firing")


@dataclass
class Health:
    """The services that are healthy, and whether the remedy works."""

    well: set[str] = field(default_factory=set)
    heals: Callable[[str], bool] = lambda name: True
    before: Callable[[], Awaitable[None]] | None = None
    """Awaited inside every action, so that other tasks can run during it."""


class Fix(Action):
    """An action that makes a service healthy, or fails to do so."""

    name = "test.fix"

    def __init__(self, health: Health) -> None:
        self._health = health

    async def plan(self, service: Service, parameters: Any) -> PlannedCall:
        return PlannedCall(f"fix {service.name}")

    async def execute(self, service: Service, parameters: Any, call: PlannedCall) -> Result:
        if self._health.before is not None:
            await self._health.before()
        if self._health.heals(service.name):
            self._health.well.add(service.name)
        return Result(Outcome.OK, "fixed")


class Well(Check):
    """A check whether a service is healthy."""

    name = "test.well"

    def __init__(self, health: Health) -> None:
        self._health = health

    async def observe(self, service: Service, parameters: Parameters) -> Evidence:
        well = service.name in self._health.well
        return Evidence(CheckAnswer.OK if well else CheckAnswer.FAIL, "well" if well else "not well")


def remedy(name: str, guards: Mapping[str, Any], **more: Any) -> Playbook:
    """Return a playbook that fixes the service that the alert names."""
    steps = more.pop("steps", [{"id": "fix", "action": "test.fix", "on_failure": "escalate"}])
    verify = {"settle": "1s", "within": "2s", "checks": [{"check": "test.well"}]}
    return playbook(
        name,
        "${service}",
        parameters={"service": {"label": "service", "type": "service"}},
        steps=steps,
        verify={**verify, **more.pop("verify", {})},
        guards=dict(guards),
        **more,
    )


def context(
    store: Store,
    clock: Clock,
    playbooks: Sequence[Playbook],
    health: Health,
    name: str,
    inventory: Inventory = INVENTORY,
) -> PipelineContext:
    """Return an engine for these playbooks, with every guard that needs no external server."""
    world = ClientSet(clock=clock)
    return PipelineContext(
        store=store,
        clock=clock,
        ids=Ids(),
        replica=name,
        playbooks=PlaybookSet(playbooks, inventory, "test"),
        actions={"test.fix": Fix(health)},
        checks={"test.well": Well(health)},
        guards=[guard for guard in Registry().make_guards(world) if guard.name not in WITHOUT_WORLD],
        timeouts=Timeouts(
            guard_recheck_interval=timedelta(milliseconds=200), verify_interval=timedelta(milliseconds=50)
        ),
    )


async def breaks(
    engine_: PipelineContext, chosen: Playbook, service: str, number: int, mode: str = "auto"
) -> str | None:
    """Make a service fail: its alert fires, and the playbook gets a run unless the incident has one."""

    def work(tx: Any) -> str | None:
        if runs.get_open_incidents(tx.connection, [(chosen.name, service)]):
            return None
        run_id = f"run-{number}"
        run = runs.create(tx, run_id, chosen.name, chosen.content_hash, service, mode, "test")
        item = alert(number, at=tx.now, service=service, note=str(number))
        episodes.insert_all(tx, [item])
        runs.add_episodes(tx, run.id, [item])
        return run_id

    return await engine_.store.write(work)


@dataclass(frozen=True)
class Begun:
    """One action that was begun."""

    run: str
    playbook: str
    target: str
    at: datetime


async def begun(store: Store) -> list[Begun]:
    """Return every action that was begun, in the order of the records."""
    columns = (
        attempts_table.c.run_id,
        attempts_table.c.playbook,
        attempts_table.c.target,
        attempts_table.c.intent_at,
    )
    return await store.read(
        lambda connection: [
            Begun(*row) for row in connection.execute(select(*columns).order_by(attempts_table.c.intent_at))
        ]
    )


def overdrawn(done: Sequence[Begun], scope: Callable[[Begun], str], rate: str) -> list[str]:
    """Return the places where a rate was exceeded, computed only from the actions."""
    count, length = parse_rate(rate)
    found = []
    for last in done:
        same = {item.run for item in done if scope(item) == scope(last) and last.at - length < item.at <= last.at}
        if len(same) > count:
            found.append(f"{len(same)} runs within {rate} up to {last}")
    return found


async def holding(store: Store) -> list[Run]:
    """Return the runs that hold a target lock now."""
    return await store.read(target_locks.list_lock_holders)


async def eventually(condition: Callable[[], Awaitable[bool]], seconds: float = 60) -> None:
    """Poll until the condition holds."""
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.05)


class GaugeParameters(Parameters):
    """Parameters of a PromQL check."""

    query: str
    max_age: str = "1m"


class Gauge(Check):
    """A stand-in for PromQL that returns the next number at each query, and then always the last one."""

    name = "promql"
    Parameters = GaugeParameters

    def __init__(self, *values: float) -> None:
        self._values = list(values)

    async def observe(self, service: Service, parameters: GaugeParameters) -> Evidence:
        value = self._values.pop(0) if len(self._values) > 1 else self._values[0]
        return Evidence(CheckAnswer.OK, f"{value}", {"samples": [{"labels": {}, "value": value}]})


async def advance_until(
    engine_: PipelineContext, statuses: Sequence[str], clock: Any = None, seconds: float = 20
) -> Run:
    """Advance the only run, and move the clock where the run waits, until it has one of these statuses."""
    async with asyncio.timeout(seconds):
        while True:
            claimed = await engine_.store.write(lambda tx: run_claims.claim_due(tx, "test", engine_.timeouts.lease, 1))
            for run in claimed:
                wakeup_count, progress = run.wakeup_count, StageResult(run)
                while not progress.waits:
                    wakeup_count, progress = progress.run.wakeup_count, await advance(engine_, progress.run)
                if progress.run.finished_at is None:
                    until, last = progress.until, progress.run
                    await engine_.store.write(
                        partial(run_claims.release, run=last, wake_at=until, wakeup_count=wakeup_count)
                    )
            found = await engine_.store.read(lambda connection: runs.list_page(connection, 1))
            if found and found[0].status.value in statuses:
                return found[0]
            if clock is not None:
                clock.time += timedelta(milliseconds=500)
