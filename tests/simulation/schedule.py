"""One schedule: the seed determines hosts, targets, faults and people; the schedule runs to its end and is checked."""

from __future__ import annotations

import asyncio
import errno
import os
import random
import traceback
from collections.abc import Callable, Coroutine, MutableMapping
from contextvars import copy_context
from dataclasses import dataclass, field, fields
from datetime import timedelta
from typing import Any, TypeVar

import structlog

from remediator.authoring.simulation import log_events
from remediator.authoring.simulation.virtual_loop import Deadlock
from remediator.core.ids import Ids
from remediator.core.run import Run
from remediator.errors import RemediatorError
from remediator.extensions.clientset import ClientSet as Clients
from remediator.extensions.guards.concurrency import Concurrency
from remediator.extensions.guards.cooldown import Cooldown
from remediator.extensions.guards.kill_switch import KillSwitch
from remediator.pipeline.context import PipelineContext, PlaybookSet, Timeouts
from remediator.pipeline.ingest import IngestSettings
from remediator.pipeline.match import Index
from remediator.pipeline.receive import receive
from remediator.playbooks.inventory import Inventory
from remediator.playbooks.model import Playbook
from remediator.runtime.log_output import Guarded
from remediator.runtime.maintenance import MaintenanceSettings, run_maintenance_loop
from remediator.runtime.reconcile import ReconcileSettings, run_reconcile_loop
from remediator.runtime.worker import Worker, run_supervised
from remediator.storage import StoreClock, replacement
from remediator.storage.repositories import approvals, playbooks, run_claims, runs
from tests.simulation.alertmanager import RECEIVER, SendFaults, SimAlertmanager
from tests.simulation.hosts import HOST, FaultyDatabase, FaultyStore, Host, HostLoop, StoreFaults
from tests.simulation.invariants import Broken, Judge
from tests.simulation.world import Adjust, CallFaults, Healthy, Kick, Moody, Restart, World

TROUBLE = 150.0
"""Seconds in which faults happen."""
CALM = 900.0
"""Seconds without faults after that, in which every run must end."""
POLL = 20.0
PACE = Timeouts(
    lease=timedelta(seconds=10),
    lease_margin=timedelta(seconds=4),
    guard_recheck_interval=timedelta(seconds=5),
    verify_interval=timedelta(seconds=2),
    probe_timeout=timedelta(seconds=3),
    recurrence_window=timedelta(seconds=30),
    run_timeout=timedelta(seconds=120),
)
INTAKE = IngestSettings(resolve_grace=timedelta(seconds=20), batch_size=3)
F = TypeVar("F")


@dataclass(slots=True)
class Result:
    """The result of a seed."""

    seed: int
    broken: Broken | None
    trace: list[str]
    crashes: int = 0
    pauses: int = 0
    actions: int = 0
    runs: int = 0
    claims: int = 0
    steps: int = 0


@dataclass(slots=True)
class Chaos:
    """Kills and pauses of hosts; their times are counted in steps of the loop, so they can happen anywhere."""

    kill_at: list[int]
    pause_at: list[tuple[int, float]]
    crashes: int = 0
    pauses: int = 0


@dataclass(slots=True)
class _Replica:
    host: Host
    store: FaultyStore
    tasks: list[asyncio.Task[Any]] = field(default_factory=list)


def simulate(seed: int) -> Result:
    """Run the schedule of a seed."""
    loop = HostLoop(random.Random(seed))
    loop.set_exception_handler(lambda _, context: None)
    asyncio.set_event_loop(loop)
    schedule = Schedule(seed, loop)
    with log_events.given_to(Guarded([schedule.hear])):
        try:
            loop.run_until_complete(schedule.run())
        except Deadlock:
            schedule.judge.broken = schedule.judge.broken or Broken(
                0, "it goes round in circles, or nothing moves any more"
            )
        finally:
            schedule.end()
            asyncio.set_event_loop(None)
    return schedule.result()


def _drawn(chance: random.Random, kind: Callable[..., F], most: float) -> F:
    """Draw the probability of each fault. Each is 0 in half of the schedules, so faults occur alone and together."""
    names = [item.name for item in fields(kind)]  # type: ignore[arg-type]
    return kind(**{name: chance.choice((0.0, chance.uniform(0.0, most))) for name in names})


def _playbooks(chance: random.Random) -> list[Playbook]:
    kinds: list[dict[str, Any]] = [
        {"id": "restart", "action": "sim.restart", "timeout": "5s"},
        {"id": "kick", "action": "sim.kick", "timeout": "5s"},
        {"id": "adjust", "action": "sim.adjust", "timeout": "5s", "retry": {"attempts": 3, "backoff": "1s"}},
    ]
    chance.shuffle(kinds)
    steps = kinds[: chance.choice((1, 2, 2, 3))]
    for step in steps:
        if chance.random() < 0.15:
            step["approval"] = "required"
        if chance.random() < 0.2:
            step["on_failure"] = chance.choice(("abort", "escalate"))
    data = {
        "apiVersion": "remediator/v1",
        "kind": "Playbook",
        "name": "heal",
        "match": {"alertname": "Down"},
        "mode": chance.choice(("auto", "auto", "auto", "approve")),
        "target": "${service}",
        "parameters": {"service": {"label": "service", "type": "service"}},
        "diagnose": [{"id": "look", "check": "sim.healthy"}],
        "steps": steps,
        "verify": {"settle": "2s", "within": "8s", "checks": [{"check": "sim.healthy"}]},
        "approval": {"expires": "30s"},
        "guards": {"cooldown": chance.choice(("0s", "30s"))},
        "escalate": {"to": ["oncall"]},
    }
    other = {**data, "name": "also", "steps": kinds[-1:]}
    return [Playbook.model_validate(item) for item in ([data, other] if chance.random() < 0.3 else [data])]


class Schedule:
    """The complete schedule of a seed."""

    def __init__(self, seed: int, loop: HostLoop) -> None:
        self.seed = seed
        self.loop = loop
        self.chance = chance = random.Random(f"plot {seed}")
        self.trace: list[str] = []
        self.database = FaultyDatabase(loop)
        names = [f"t{number}" for number in range(chance.choice((1, 2, 3)))]
        self.world = World(loop, random.Random(f"world {seed}"), _drawn(chance, CallFaults, 0.5), names)
        self.world.tell = self.tell
        self.judge = Judge(self.database, self.world)
        self.store_faults = _drawn(chance, StoreFaults, 0.05)
        self.playbooks = _playbooks(chance)
        self.inventory = _inventory(names)
        self.replicas: list[_Replica] = []
        self.hosts = chance.choice((1, 2, 3))
        self.started = 0
        sends = _drawn(chance, SendFaults, 0.4)
        self.alertmanagers = [
            SimAlertmanager(f"am{number}", self.world, random.Random(f"am{number} {seed}"), sends, self._post)
            for number in range(chance.choice((1, 2)))
        ]
        self.chaos = _chaos(chance)
        self._observers = random.Random(f"observers {seed}")
        self.observer_faults = self._observers.choice((0.0, 0.1, 1.0))
        self.fail_over_at = _failover(random.Random(f"failover {seed}"))
        if self.fail_over_at is not None:
            self.database.keep_commits(self.fail_over_at[1])
        self._resumptions: list[tuple[float, Host]] = []
        loop.before_step = self._before_step
        self._others: list[asyncio.Task[Any]] = []

    def tell(self, text: str) -> None:
        """Add a line to the trace."""
        self.trace.append(f"{self.loop.time():9.3f}  {text}")

    def hear(self, logger: Any, name: str, event: MutableMapping[str, Any]) -> Any:
        """Receive each log event of the engine; an event with an exception is a broken promise."""
        if event.get("exc_info"):
            text = "".join(traceback.format_exc().splitlines(keepends=True)[-12:])
            self.judge.broken = self.judge.broken or Broken(0, f"{event['event']}: {text}")
        self._observe()
        raise structlog.DropEvent

    def _observe(self) -> None:
        """Let an observer, such as the log or a metric, fail in some schedules. No run may be affected."""
        if self._observers.random() < self.observer_faults and not self.world.calm:
            number = self._observers.choice((errno.ENOSPC, errno.EPIPE, errno.EIO))
            raise OSError(number, os.strerror(number))

    async def run(self) -> None:
        """Run the time with faults, the calm, and the final checks."""
        self._others = [asyncio.create_task(item) for item in self._cast()]
        for _ in range(self.hosts):
            self._start()
        await self._until(TROUBLE)
        self._calm()
        await self._until(TROUBLE + CALM)
        if self.judge.broken is None:
            self.judge.at_the_end(self.alertmanagers, len(self.playbooks))

    async def _until(self, end: float) -> None:
        while self.loop.time() < end and self.judge.broken is None:
            await asyncio.sleep(5.0)
            if self.world.calm and self._is_over():
                return

    def _is_over(self) -> bool:
        counted = self.database.raw.execute(
            "SELECT (SELECT count(*) FROM runs WHERE incident_open OR wake_at IS NOT NULL OR lease_owner IS NOT NULL) "
            "+ (SELECT count(*) FROM episodes WHERE status <> 'closed') "
            "+ (SELECT count(*) FROM notifications WHERE processed_at IS NULL)"
        ).fetchone()
        firing = any(peer.firing or peer._sending for peer in self.alertmanagers)
        return not counted[0] and not firing

    def _cast(self) -> list[Coroutine[Any, Any, None]]:
        return [
            self._breaks(),
            self._people(),
            self._clocks(),
            self._ends_of_pauses(),
            self._failover(),
            *(peer.watch() for peer in self.alertmanagers),
        ]

    def _calm(self) -> None:
        """Switch all faults off, and let people fix the targets that are still broken."""
        self.tell("calm")
        self.world.calm = True
        self.store_faults = StoreFaults()
        self.chaos.kill_at.clear()
        self.chaos.pause_at.clear()
        for replica in self.replicas:
            replica.store.faults = self.store_faults
            self.loop.resume(replica.host)
        while sum(replica.host.alive for replica in self.replicas) < self.hosts:
            self._start()
        for target in self.world.targets.values():
            target.healthy = True

    # -- hosts

    def _start(self) -> None:
        self.started += 1
        host = Host(f"host-{self.started}")
        store = FaultyStore(self.database, host, random.Random(f"{host.name} {self.seed}"), self.store_faults)
        self.database.stores.append(store)
        replica = _Replica(host, store)
        self.replicas.append(replica)
        self.tell(f"{host.name} starts")
        self._spawn(replica, self._serve(replica))

    def _spawn(self, replica: _Replica, work: Coroutine[Any, Any, Any]) -> None:
        context = copy_context()
        context.run(HOST.set, replica.host)
        replica.tasks.append(self.loop.create_task(work, context=context))

    async def _serve(self, replica: _Replica) -> None:
        context = self._context(replica)
        while True:
            try:
                await context.store.write(lambda tx: playbooks.add_versions(tx, self.playbooks))
                break
            except RemediatorError:
                await asyncio.sleep(1.0)
        if self.hosts == 1:  # with one process on one file, no other process can hold a lease
            await self._forget(context)
        loops = Worker(context, Index(self.playbooks, "Watchdog"), INTAKE, 4, POLL)
        peers = ReconcileSettings(self.alertmanagers, timedelta(seconds=30), 3, receiver=RECEIVER)
        await asyncio.gather(
            run_supervised("take in", loops.run_ingest_loop, asyncio.sleep),
            run_supervised("advance", loops.run_advance_loop, asyncio.sleep),
            run_supervised("close", loops.run_close_loop, asyncio.sleep),
            run_supervised(
                "upkeep",
                lambda: run_maintenance_loop(context, MaintenanceSettings(every=timedelta(seconds=60))),
                asyncio.sleep,
            ),
            run_supervised("reconcile", lambda: run_reconcile_loop(context, INTAKE, peers), asyncio.sleep),
        )

    async def _forget(self, context: PipelineContext) -> None:
        while True:
            try:
                await context.store.write(run_claims.clear_leases)
                return
            except RemediatorError:
                await asyncio.sleep(1.0)

    def _context(self, replica: _Replica) -> PipelineContext:
        clients, host = Clients(), replica.host
        guards = (KillSwitch(clients), Cooldown(clients), Concurrency(clients), Moody(self.world))
        return PipelineContext(
            store=replica.store,
            clock=StoreClock(replica.store, replica.store.clock),
            ids=Ids(random.Random(f"ids {host.name} {self.seed}")),
            replica=host.name,
            playbooks=PlaybookSet(self.playbooks, self.inventory, "simulation"),
            actions={action.name: action(self.world) for action in (Restart, Kick, Adjust)},
            checks={"sim.healthy": Healthy(self.world)},
            guards=guards,
            timeouts=PACE,
            on_event=lambda kind, run, data: self._event(host, kind, run),
        )

    def _event(self, host: Host, kind: str, run: Run) -> None:
        self._observe()
        if kind == "transition":
            self.tell(f"{host.name}: {run.id} is {run.status} {run.reason or ''}")

    # -- faults of hosts

    def _before_step(self, host: Host) -> None:
        chaos, steps = self.chaos, self.loop.steps
        if chaos.kill_at and steps >= chaos.kill_at[0]:
            chaos.kill_at.pop(0)
            host.alive = False
        if chaos.pause_at and steps >= chaos.pause_at[0][0]:
            _, length = chaos.pause_at.pop(0)
            chaos.pauses += 1
            host.paused = True
            self.tell(f"{host.name} is paused for {length:g} s")
            self._resumptions.append((self.loop.time() + length, host))

    async def _ends_of_pauses(self) -> None:
        """Resume paused hosts when their pause is over, and start dead ones again."""
        dead: set[str] = set()
        while True:
            await asyncio.sleep(0.5)
            now = self.loop.time()
            for at, host in [item for item in self._resumptions if item[0] <= now]:
                self._resumptions.remove((at, host))
                self.tell(f"{host.name} goes on")
                self.loop.resume(host)
            for replica in self.replicas:
                if not replica.host.alive and replica.host.name not in dead:
                    dead.add(replica.host.name)
                    self.chaos.crashes += 1
                    self.tell(f"{replica.host.name} was killed")
            living = sum(replica.host.alive for replica in self.replicas)
            if living < self.hosts and self.chance.random() < 0.1:
                self._start()

    async def _failover(self) -> None:
        """Make a standby the primary that lacks the last commits, with all that these acknowledged."""
        if self.fail_over_at is None:
            return
        at, behind = self.fail_over_at
        await asyncio.sleep(at)
        stored = self.judge.stored()
        lost = self.database.fail_over(behind)
        if lost:
            self.judge.forgive(stored)
            self.database.do(lambda tx: replacement.record(tx, "simulated", "simulation"))
            self.tell(f"the database fails over and loses {lost} commits")

    async def _clocks(self) -> None:
        while not self.world.calm:
            await asyncio.sleep(self.chance.uniform(5.0, 60.0))
            replica = self.chance.choice(self.replicas)
            replica.host.offset = self.chance.choice((0.0, 0.0, 0.2, -0.2, 3600.0, -3600.0))

    # -- events

    async def _breaks(self) -> None:
        while not self.world.calm:
            await asyncio.sleep(self.chance.uniform(0.0, 40.0))
            target = self.chance.choice(list(self.world.targets.values()))
            if target.healthy and not self.world.calm:
                target.healthy, target.cure = False, self.chance.choice(("restart", "kick", "adjust", "person"))
                self.tell(f"{target.name} breaks; {target.cure} would cure it")
            elif self.chance.random() < 0.3:
                target.healthy = True
                self.tell(f"{target.name} is healthy again without a remedy")

    async def _people(self) -> None:
        while True:
            await asyncio.sleep(self.chance.uniform(2.0, 15.0))
            for item in self.database.look(approvals.list_pending):
                if self.chance.random() < 0.5:
                    verb = self.chance.choice(("approve", "approve", "reject"))
                    self.tell(f"a person says {verb} to {item.run_id}")
                    self.database.do(
                        lambda tx, i=item, v=verb: approvals.decide(
                            tx, i, i.plan_hash, approvals.Decision("user:ann", v, tx.now, None, "test")
                        )  # type: ignore[misc]
                    )
            if self.chance.random() < 0.05 and not self.world.calm:
                for run in self.database.look(lambda connection: runs.list_page(connection, 1, only=runs.OPEN_ONLY)):
                    self.tell(f"a person cancels {run.id}")
                    self.database.do(lambda tx, r=run: runs.request_cancel(tx, r.id, "user:ann", "enough"))  # type: ignore[misc]

    def _post(self, body: bytes) -> asyncio.Future[bool]:
        """Send a body through the load balancer to a host that is alive."""
        answer: asyncio.Future[bool] = self.loop.create_future()
        living = [replica for replica in self.replicas if replica.host.alive]
        if not living:
            answer.set_result(False)
            return answer
        replica = self.chance.choice(living)
        self._spawn(replica, _request(replica.store, body, answer))
        return answer

    def end(self) -> None:
        """Stop all hosts and tasks."""
        self.database.over = True
        self.loop.before_step = lambda host: None
        for replica in self.replicas:
            replica.host.alive = True
            self.loop.resume(replica.host)
        self.loop.end()
        self.database.close()

    def result(self) -> Result:
        """Return the result of the schedule."""
        return Result(
            self.seed,
            self.judge.broken,
            self.trace,
            self.chaos.crashes,
            self.chaos.pauses,
            sum(len(target.effects) for target in self.world.targets.values()),
            len(self.judge._before),
            self.judge.claims,
            self.loop.steps,
        )


async def _request(store: FaultyStore, body: bytes, answer: asyncio.Future[bool]) -> None:
    try:
        await receive(store, body)
        accepted = True
    except RemediatorError:
        accepted = False
    if not answer.done():
        answer.set_result(accepted)


def _failover(chance: random.Random) -> tuple[float, int] | None:
    """Return the time of a failover and the number of lost commits; None in most schedules."""
    return (chance.uniform(5.0, TROUBLE - 10.0), chance.choice((1, 1, 2, 4, 8))) if chance.random() < 0.15 else None


def _chaos(chance: random.Random) -> Chaos:
    kills = chance.choice((0, 0, 1, 2, 4))
    pauses = chance.choice((0, 0, 1, 3))
    return Chaos(
        sorted(chance.randrange(20, 1500) for _ in range(kills)),
        sorted((chance.randrange(20, 1500), chance.choice((1.0, 4.0, 12.0, 30.0))) for _ in range(pauses)),
    )


def _inventory(names: list[str]) -> Inventory:
    bound = {"platform": {"kind": "supervisor", "url": "unix:///none", "program": "none"}}
    return Inventory.model_validate(
        {"apiVersion": "remediator/v1", "kind": "Inventory", "services": {name: bound for name in names}}
    )
