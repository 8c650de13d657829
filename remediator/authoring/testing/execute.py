"""Play one test: the engine of production on a virtual clock, a database in memory, and the scene for a world."""

from __future__ import annotations

import asyncio
import json
import random
import traceback
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, cast

import structlog
from sqlalchemy import Connection

from remediator.authoring.simulation.memory_store import START, Database, SimStore, StoreFaults, clock_of
from remediator.authoring.simulation.virtual_loop import Deadlock, Host, VirtualLoop
from remediator.authoring.testing.fakes import (
    RECEIVER,
    Scene,
    ScriptedAction,
    ScriptedAlertmanager,
    ScriptedCheck,
    ScriptedPlatform,
)
from remediator.authoring.testing.model import Case, Suite, TestAlert
from remediator.clients.alertmanager.client import Alertmanager
from remediator.core.clock import rfc3339
from remediator.core.ids import Ids
from remediator.core.run import Run
from remediator.extensions.clientset import ClientSet
from remediator.extensions.registry import Registry
from remediator.pipeline.context import PipelineContext, PlaybookSet, Timeouts
from remediator.pipeline.ingest import IntakeSettings
from remediator.pipeline.match import Index
from remediator.pipeline.receive import receive
from remediator.playbooks.inventory import Inventory
from remediator.playbooks.model import Playbook
from remediator.runtime.maintenance import MaintenanceSettings, run_maintenance_loop
from remediator.runtime.scheduled_undo import run_scheduled_undo_loop
from remediator.runtime.worker import Worker, run_supervised
from remediator.storage import StoreClock
from remediator.storage.repositories import approvals, attempts, evidence, playbooks, runs, stops
from remediator.storage.repositories.attempts import Attempt
from remediator.storage.repositories.evidence import EvidenceRecord, StoredVerdict

_REAL = {"service.status", "service.running"}
"""They only ask the platform, which the test describes; unless it says what they answer."""
_LONGEST = timedelta(minutes=30)
_STEPS = 2_000_000
_WATCHDOG = "Watchdog"


@dataclass(slots=True)
class Told:
    """One message that people got."""

    kind: str
    channel: str
    text: str


@dataclass(slots=True)
class Played:
    """What came of a test."""

    runs: list[Run] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)
    """Of the first run, without those that put something back."""
    undone: list[str] = field(default_factory=list)
    """Steps of the first run that were put back."""
    seen: list[EvidenceRecord] = field(default_factory=list)
    judged: list[StoredVerdict] = field(default_factory=list)
    messages: list[Told] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    trail: list[str] = field(default_factory=list)
    """The statuses that the first run went through."""
    seconds: float = 0.0
    """From the first alert to the end of the first run."""
    defect: str = ""
    """What went wrong in the engine itself."""

    @property
    def run(self) -> Run | None:
        """The first run; tests are about one."""
        return self.runs[0] if self.runs else None


def play(
    case: Case,
    suite: Suite,
    playbook: Playbook,
    registry: Registry,
    look: Callable[[Connection], None] = lambda connection: None,
) -> Played:
    """Play a test to its end.

    Args:
        look: shown the store as it is then.
    """
    loop = VirtualLoop(random.Random(0), _STEPS)
    asyncio.set_event_loop(loop)
    stage = _Stage(case, suite, playbook, registry, loop)
    logging = structlog.get_config()
    structlog.configure(processors=[stage.hear])
    try:
        loop.run_until_complete(stage.run())
        stage.database.look(look)
    except Deadlock:
        stage.played.defect = "nothing moves any more, or it goes round in circles"
    finally:
        _end(loop)
        stage.database.close()
        structlog.configure(**logging)
        asyncio.set_event_loop(None)
        loop.close()
    return stage.played


def _end(loop: VirtualLoop) -> None:
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    with suppress(Deadlock):
        loop.run_until_complete(asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 60))


def inventory_of(suite: Suite, playbook: Playbook) -> Inventory:
    """The services of a suite, and the playbook's target."""
    names = dict.fromkeys((playbook.target,)) if not playbook.target.startswith("${") else {}
    wanted = {**{name: {} for name in names}, **{name: item.model_dump() for name, item in suite.services.items()}}
    for item in suite.services.values():
        wanted |= {name: {} for name in item.depends_on if name not in wanted}
    binding = {"kind": "supervisor", "url": "unix:///nowhere"}
    services = {name: {"platform": {**binding, "program": name}, **more} for name, more in wanted.items()}
    return Inventory.model_validate({"apiVersion": "remediator/v1", "kind": "Inventory", "services": services})


class _Stage:
    def __init__(self, case: Case, suite: Suite, playbook: Playbook, registry: Registry, loop: VirtualLoop) -> None:
        self.case = case
        self.loop = loop
        self.played = Played()
        self.start = case.start or START
        self.database = Database(loop, self.start)
        self.scene = Scene(case, self.start, lambda: self.database.now)
        chosen = playbook if case.mode is None else playbook.model_copy(update={"mode": case.mode})
        host = Host("test")
        clock = clock_of(loop, host, self.start)
        self.store = SimStore(self.database, host, random.Random(0), StoreFaults(), clock)
        self.database.stores.append(self.store)
        self.context = self._context(chosen, inventory_of(suite, playbook), suite.environment, registry, clock)
        self._people = list(case.people)

    def _context(
        self, playbook: Playbook, inventory: Inventory, environment: str, registry: Registry, clock: Any
    ) -> PipelineContext:
        platform = ScriptedPlatform(self.scene)
        world = ClientSet(
            platforms=dict.fromkeys(("supervisor", "docker", "kubernetes", "systemd"), platform),
            alertmanagers=(cast(Alertmanager, ScriptedAlertmanager(self.scene)),),
            clock=clock,
            inventory=lambda: inventory,
        )
        real = _REAL.difference(self.case.actions, self.case.checks)
        return PipelineContext(
            store=self.store,
            clock=StoreClock(self.store, clock),
            ids=Ids(random.Random(0)),
            replica="test",
            playbooks=PlaybookSet((playbook,), inventory, environment),
            actions={k.name: k(world) if k.name in real else ScriptedAction(k, self.scene) for k in registry.actions},
            checks={k.name: k(world) if k.name in real else ScriptedCheck(k, self.scene) for k in registry.checks},
            guards=tuple(kind(world) for kind in registry.guards),
            platforms=world.platforms,
            timeouts=Timeouts(),
            on_event=self._event,
        )

    def hear(self, logger: Any, name: str, event: MutableMapping[str, Any]) -> Any:
        """What the engine logs: only a defect of its own is of interest."""
        if event.get("exc_info"):
            self.played.defect = f"{event['event']}: {traceback.format_exc().strip().splitlines()[-1]}"
        raise structlog.DropEvent

    def _event(self, kind: str, run: Run, data: Mapping[str, Any]) -> None:
        if kind == "transition" and (not self.played.runs or run.id == self.played.runs[0].id):
            self.played.trail.append(run.status.value)

    async def run(self) -> None:
        """From the first alert to the end."""
        await self.context.store.write(lambda tx: playbooks.add_versions(tx, self.context.playbooks.active))
        loops = Worker(self.context, Index(self.context.playbooks.active, _WATCHDOG), IntakeSettings(), 4, 20.0)
        cast_ = [
            run_supervised("take in", loops.run_ingest_loop, asyncio.sleep),
            run_supervised("advance", loops.run_advance_loop, asyncio.sleep),
            run_supervised("close", loops.run_close_loop, asyncio.sleep),
            run_supervised("step down", lambda: run_scheduled_undo_loop(self.context, 20.0), asyncio.sleep),
            run_supervised("upkeep", lambda: run_maintenance_loop(self.context, MaintenanceSettings()), asyncio.sleep),
            self._watchdog(),
            self._decide(),
            *(self._alert(item) for item in self.case.alerts),
            *(self._stop(number) for number in range(len(self.case.stops))),
        ]
        tasks = [asyncio.create_task(item) for item in cast_]
        await self._until_over()
        for task in tasks:
            task.cancel()
        self._collect()

    async def _until_over(self) -> None:
        end = (self.case.lasts or _LONGEST).total_seconds()
        settled = 0
        while self.loop.time() < end and settled < 2:
            await asyncio.sleep(min(5.0, end - self.loop.time()))
            settled = settled + 1 if self.case.lasts is None and self._is_over() else 0

    def _is_over(self) -> bool:
        last = max((*(item.at for item in self.case.alerts), *(item.at for item in self.case.stops)))
        if self.database.now - self.start < last + timedelta(seconds=5):
            return False
        found = self.database.look(lambda connection: runs.list_page(connection, 100))
        wanted = self.case.expect.outcome
        ended = all(run.finished_at is not None for run in found)
        return ended or (not self._people and all(run.status.value == wanted for run in found))

    # what happens

    async def _post(self, alerts: Sequence[tuple[TestAlert, bool]]) -> None:
        told = [
            {
                "status": "firing" if firing else "resolved",
                "labels": alert.labels,
                "annotations": alert.annotations,
                "startsAt": rfc3339(self.start + alert.at),
                "endsAt": "0001-01-01T00:00:00Z" if firing else rfc3339(self.database.now),
            }
            for alert, firing in alerts
        ]
        data = {"version": "4", "receiver": RECEIVER, "truncatedAlerts": 0, "alerts": told}
        await receive(self.store, json.dumps(data).encode())

    async def _alert(self, alert: TestAlert) -> None:
        await asyncio.sleep(alert.at.total_seconds() + 0.01)
        await self._post([(alert, True)])
        if alert.until is not None:
            await asyncio.sleep((alert.until - alert.at).total_seconds())
            await self._post([(alert, False)])

    async def _watchdog(self) -> None:
        while self.case.watchdog:
            await self._post([(TestAlert(labels={"alertname": _WATCHDOG}), True)])
            await asyncio.sleep(60)

    async def _stop(self, number: int) -> None:
        stop = self.case.stops[number]
        await asyncio.sleep(stop.at.total_seconds())
        await self.store.write(lambda tx: stops.create(tx, f"stop-{number}", "global", "", stop.reason, "user:test"))

    async def _decide(self) -> None:
        """Whoever is next says their word when their time has come."""
        while self._people:
            await asyncio.sleep(1)
            person = self._people[0]
            for asked in self.database.look(approvals.list_pending):
                if self.database.now - asked.requested_at >= person.after:
                    self._people.pop(0)
                    self.database.do(
                        lambda tx, a=asked, p=person: approvals.decide(  # type: ignore[misc]
                            tx, a, a.plan_hash, f"user:{p.by}", "test", p.decide, snooze=timedelta(minutes=5)
                        )
                    )
                    break

    # what came of it

    def _collect(self) -> None:
        look, played = self.database.look, self.played
        played.runs = sorted(look(lambda connection: runs.list_page(connection, 100)), key=lambda run: run.created_at)
        for kind, channel, content in self.database.raw.execute(
            "SELECT kind, channel, content FROM messages ORDER BY id"
        ):
            played.messages.append(Told(kind, channel, self._text(content)))
        run = played.run
        if run is None:
            return
        tried = look(lambda c: attempts.list_for_run(c, run.id))
        played.attempts = [item for item in tried if not item.is_undo]
        played.undone = [item.step for item in tried if item.is_undo and item.outcome == "ok"]
        played.seen = look(lambda c: evidence.list_for_run(c, run.id))
        played.judged = look(lambda c: evidence.list_verdicts(c, run.id))
        if run.finished_at is not None:
            played.seconds = (run.finished_at - self.start - self.case.alerts[0].at).total_seconds()
        rows = self.database.raw.execute(
            "SELECT canonical FROM audit WHERE run_id = ? AND kind = 'action.outcome' ORDER BY seq", (run.id,)
        )
        entries = [json.loads(row[0]) for row in rows]
        played.skipped = [entry["data"]["step"] for entry in entries if entry.get("reason") == "skipped"]

    def _text(self, content: str) -> str:
        plan = self.played.runs[0].plan if self.played.runs else None
        return f"{content} {plan.escalate_message if plan else ''}"
