"""Execute one test: the production pipeline on a virtual clock, with a database in memory and scripted fakes."""

from __future__ import annotations

import asyncio
import json
import random
import traceback
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, cast

import structlog
from sqlalchemy import Connection

from remediator.authoring.simulation import log_events
from remediator.authoring.simulation.memory_store import START, Database, MemoryStore
from remediator.authoring.simulation.virtual_loop import Deadlock, VirtualLoop
from remediator.authoring.testing.fakes import (
    RECEIVER,
    Script,
    ScriptedAction,
    ScriptedAlertmanager,
    ScriptedCheck,
    ScriptedPlatform,
)
from remediator.authoring.testing.model import Case, Suite, TestAlert
from remediator.clients.alertmanager.client import Alertmanager
from remediator.core.alert import ALERTMANAGER
from remediator.core.clock import rfc3339
from remediator.core.ids import Ids
from remediator.core.run import Run
from remediator.extensions.clientset import ClientSet
from remediator.extensions.registry import Registry
from remediator.extensions.sources.base import DEFAULT, Source
from remediator.pipeline.context import PipelineContext, PlaybookSet, Timeouts
from remediator.pipeline.ingest import IngestSettings
from remediator.pipeline.match import Index
from remediator.pipeline.receive import receive
from remediator.playbooks.inventory import Inventory
from remediator.playbooks.model import Playbook
from remediator.playbooks.target_identity import Relation, compare
from remediator.runtime.maintenance import MaintenanceSettings, run_maintenance_loop
from remediator.runtime.scheduled_undo import run_scheduled_undo_loop
from remediator.runtime.worker import Worker, run_supervised
from remediator.storage.repositories import approvals, attempts, evidence, playbooks, runs, stops
from remediator.storage.repositories.attempts import Attempt
from remediator.storage.repositories.evidence import EvidenceRecord, StoredVerdict

_NOT_SCRIPTED = {"service.status", "service.running"}
"""They only read the platform, which the test describes. The real actions run unless the test scripts their answers."""
_MAX_DURATION = timedelta(minutes=30)
_MAX_STEPS = 2_000_000
_WATCHDOG = "Watchdog"


@dataclass(slots=True)
class SentMessage:
    """A message that was sent."""

    kind: str
    channel: str
    text: str


@dataclass(slots=True)
class CaseResult:
    """The result of a test."""

    runs: list[Run] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)
    """Attempts of the first run, without undos."""
    undone: list[str] = field(default_factory=list)
    """Steps of the first run that were undone."""
    evidence: list[EvidenceRecord] = field(default_factory=list)
    verdicts: list[StoredVerdict] = field(default_factory=list)
    messages: list[SentMessage] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    statuses: list[str] = field(default_factory=list)
    """The statuses of the first run, in order."""
    seconds: float = 0.0
    """Seconds from the first alert to the end of the first run."""
    defect: str = ""
    """An internal error in the pipeline; empty if no error occurred."""

    @property
    def run(self) -> Run | None:
        """Return the first run, or None."""
        return self.runs[0] if self.runs else None


def execute(
    case: Case,
    suite: Suite,
    playbook: Playbook,
    registry: Registry,
    look: Callable[[Connection], None] = lambda connection: None,
) -> CaseResult:
    """Execute a test.

    Args:
        case: the test, with the environment of its file merged.
        suite: the test file.
        playbook: the playbook of the file.
        registry: the actions, checks and guards of the installation.
        look: called with a connection to the store at the end.
    """
    loop = VirtualLoop(random.Random(0), _MAX_STEPS)
    asyncio.set_event_loop(loop)
    execution = _Execution(case, suite, playbook, registry, loop)
    with log_events.given_to(execution.hear):
        try:
            loop.run_until_complete(execution.run())
            execution.database.look(look)
        except Deadlock:
            execution.result.defect = "deadlock or endless loop"
        finally:
            loop.end()
            execution.database.close()
            asyncio.set_event_loop(None)
    return execution.result


def inventory_of(suite: Suite, playbook: Playbook) -> Inventory:
    """Return the inventory of a test file, with the target of the playbook."""
    wanted: dict[str, dict[str, Any]] = {} if playbook.target.startswith("${") else {playbook.target: {}}
    wanted |= {name: item.model_dump(exclude_unset=True) for name, item in suite.services.items()}
    for item in suite.services.values():
        wanted |= {name: {} for name in item.depends_on if name not in wanted}
    binding = {"kind": "supervisor", "url": "unix:///nowhere"}
    services = {name: {"platform": {**binding, "program": name}, **more} for name, more in wanted.items()}
    return Inventory.model_validate({"apiVersion": "remediator/v1", "kind": "Inventory", "services": services})


def _about(alert: TestAlert, playbook: Playbook, inventory: Inventory) -> TestAlert:
    """Return the alert, about the target of the playbook if it starts the playbook and no label names anything."""
    matched = all(matcher.matches(alert.labels) for matcher in playbook.match.parsed)
    if not alert.about_target or not matched or playbook.target not in inventory:
        return alert
    service = inventory.service(playbook.target)
    if compare(alert.labels, service).relation is not Relation.UNKNOWN:
        return alert
    return alert.model_copy(update={"labels": {**service.alert_labels, **alert.labels}})


class _Execution:
    def __init__(self, case: Case, suite: Suite, playbook: Playbook, registry: Registry, loop: VirtualLoop) -> None:
        inventory = inventory_of(suite, playbook)
        self.case = case.model_copy(update={"alerts": tuple(_about(item, playbook, inventory) for item in case.alerts)})
        self.loop = loop
        self.result = CaseResult()
        self.start = case.start or START
        self.database = Database(loop, self.start)
        self.sources = {alert.source: Source(alert.source, None) for alert in self.case.alerts}
        self.script = Script(self.case, self.start, lambda: self.database.now)
        chosen = playbook if case.mode is None else playbook.model_copy(update={"mode": case.mode})
        self.store = MemoryStore(self.database)
        self.database.stores.append(self.store)
        self.context = self._context(chosen, inventory, suite.environment, registry)
        self._people = list(case.people)

    def _context(
        self, playbook: Playbook, inventory: Inventory, environment: str, registry: Registry
    ) -> PipelineContext:
        platform = ScriptedPlatform(self.script)
        allowed = replace(registry.allowed or ClientSet(), inventory=lambda: inventory)
        clients = ClientSet(
            platforms=dict.fromkeys((each.kind for each in registry.platforms), platform),
            alertmanagers=self._peers(ALERTMANAGER),
            sources={name: self._peers(name) for name in self.sources},
            clock=self.database.clock,
            inventory=lambda: inventory,
        )
        real = _NOT_SCRIPTED.difference(self.case.actions, self.case.checks)
        return PipelineContext(
            store=self.store,
            clock=self.database.clock,
            ids=Ids(random.Random(0)),
            replica="test",
            playbooks=PlaybookSet((playbook,), inventory, environment),
            actions={
                k.name: k(clients) if k.name in real else ScriptedAction(k, self.script, allowed)
                for k in registry.actions
            },
            checks={k.name: k(clients) if k.name in real else ScriptedCheck(k, self.script) for k in registry.checks},
            guards=tuple(kind(clients) for kind in registry.guards),
            platforms=clients.platforms,
            timeouts=Timeouts(),
            on_event=self._event,
        )

    def _peers(self, source: str) -> tuple[Alertmanager, ...]:
        """Return the servers that report the firing alerts of a source; empty if an alert cannot be confirmed."""
        if not all(alert.confirmed for alert in self.case.alerts if alert.source == source):
            return ()
        return (cast(Alertmanager, ScriptedAlertmanager(self.script)),)

    def hear(self, logger: Any, name: str, event: MutableMapping[str, Any]) -> Any:
        """Drop log events of the pipeline, and record internal errors."""
        if event.get("exc_info"):
            self.result.defect = f"{event['event']}: {traceback.format_exc().strip().splitlines()[-1]}"
        raise structlog.DropEvent

    def _event(self, kind: str, run: Run, data: Mapping[str, Any]) -> None:
        if kind == "transition" and (not self.result.runs or run.id == self.result.runs[0].id):
            self.result.statuses.append(run.status.value)

    async def run(self) -> None:
        """Run the test to its end."""
        await self.context.store.write(lambda tx: playbooks.add_versions(tx, self.context.playbooks.active))
        settings = IngestSettings(sources={ALERTMANAGER: DEFAULT, **self.sources})
        loops = Worker(self.context, Index(self.context.playbooks.active, _WATCHDOG), settings, 4, 20.0)
        loops_and_events = [
            run_supervised("ingest", loops.run_ingest_loop, asyncio.sleep),
            run_supervised("advance", loops.run_advance_loop, asyncio.sleep),
            run_supervised("close", loops.run_close_loop, asyncio.sleep),
            run_supervised("scheduled undo", lambda: run_scheduled_undo_loop(self.context, 20.0), asyncio.sleep),
            run_supervised(
                "maintenance", lambda: run_maintenance_loop(self.context, MaintenanceSettings()), asyncio.sleep
            ),
            self._watchdog(),
            self._decide(),
            *(
                self._notify(at)
                for at in {at for item in self.case.alerts for at in (item.at, item.until) if at is not None}
            ),
            *(self._stop(number) for number in range(len(self.case.stops))),
        ]
        tasks = [asyncio.create_task(item) for item in loops_and_events]
        end = (self.case.lasts or _MAX_DURATION).total_seconds()
        settled = 0
        while self.loop.time() < end and settled < 2:
            await asyncio.sleep(min(5.0, end - self.loop.time()))
            settled = settled + 1 if self.case.lasts is None and self._is_over() else 0
        for task in tasks:
            task.cancel()
        self._collect()

    def _is_over(self) -> bool:
        last = max((*(item.at for item in self.case.alerts), *(item.at for item in self.case.stops)))
        if self.database.now - self.start < last + timedelta(seconds=5):
            return False
        found = self.database.look(lambda connection: runs.list_page(connection, 100))
        wanted = self.case.expect.outcome
        ended = all(run.finished_at is not None for run in found)
        return ended or (not self._people and all(run.status.value == wanted for run in found))

    # events of the test

    async def _post(self, alerts: Sequence[tuple[TestAlert, bool]], source: Source = DEFAULT) -> None:
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
        await receive(self.store, json.dumps(data).encode(), source)

    async def _notify(self, at: timedelta) -> None:
        """Send all alerts that begin or end at this time in one notification, as Alertmanager sends a group."""
        await asyncio.sleep(at.total_seconds() + 0.01)
        changes = [(item, True) for item in self.case.alerts if item.at == at]
        changes += [(item, False) for item in self.case.alerts if item.until == at]
        for name, source in self.sources.items():
            if told := [change for change in changes if change[0].source == name]:
                await self._post(told, source)

    async def _watchdog(self) -> None:
        while self.case.watchdog:
            await self._post([(TestAlert(labels={"alertname": _WATCHDOG}), True)])
            await asyncio.sleep(60)

    async def _stop(self, number: int) -> None:
        stop = self.case.stops[number]
        await asyncio.sleep(stop.at.total_seconds())
        await self.store.write(lambda tx: stops.create(tx, f"stop-{number}", "global", "", stop.reason, "user:test"))

    async def _decide(self) -> None:
        """Decide on approval requests: the next person of the list, after their delay."""
        while self._people:
            await asyncio.sleep(1)
            person = self._people[0]
            for asked in self.database.look(approvals.list_pending):
                if self.database.now - asked.requested_at >= person.after:
                    self._people.pop(0)
                    decision = approvals.Decision(f"user:{person.by}", person.decide, self.database.now, None, "test")
                    self.database.do(
                        lambda tx, a=asked, d=decision: approvals.decide(  # type: ignore[misc]
                            tx, a, a.plan_hash, d, snooze=timedelta(minutes=5)
                        )
                    )
                    break

    # the result

    def _collect(self) -> None:
        look, result = self.database.look, self.result
        result.runs = sorted(look(lambda connection: runs.list_page(connection, 100)), key=lambda run: run.created_at)
        plan = result.runs[0].plan if result.runs else None
        for kind, channel, content in self.database.raw.execute(
            "SELECT kind, channel, content FROM messages ORDER BY id"
        ):
            text = f"{content} {plan.escalate_message if plan else ''}"
            result.messages.append(SentMessage(kind, channel, text))
        run = result.run
        if run is None:
            return
        tried = look(lambda c: attempts.list_for_run(c, run.id))
        result.attempts = [item for item in tried if not item.is_undo]
        result.undone = [item.step for item in tried if item.is_undo and item.outcome == "ok"]
        result.evidence = look(lambda c: evidence.list_for_run(c, run.id))
        result.verdicts = look(lambda c: evidence.list_verdicts(c, run.id))
        if run.finished_at is not None:
            result.seconds = (run.finished_at - self.start - self.case.alerts[0].at).total_seconds()
        rows = self.database.raw.execute(
            "SELECT canonical FROM audit WHERE run_id = ? AND kind = 'action.outcome' ORDER BY seq", (run.id,)
        )
        entries = [json.loads(row[0]) for row in rows]
        result.skipped = [entry["data"]["step"] for entry in entries if entry.get("reason") == "skipped"]
