"""A store with past runs, and guards that evaluate them: real records in a real database, and a clock for tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy
from sqlalchemy import insert

from remediator.core.clock import SystemClock
from remediator.core.ids import Ids
from remediator.core.plan import Plan, PlannedCall, PlannedStep
from remediator.core.run import ENGINE_VERSION, Episode, EpisodeStatus, Run, Status
from remediator.core.run_detail import RunningDetail
from remediator.extensions.clientset import ClientSet
from remediator.extensions.guards.base import GuardAnswer, Verdict
from remediator.extensions.platforms.base import Platform, ServiceStatus, State
from remediator.extensions.registry import Registry
from remediator.pipeline.context import PipelineContext, PlaybookSet, Timeouts
from remediator.pipeline.guard_evaluation import GuardDecision, build_input, evaluate
from remediator.pipeline.run_context import RunContext
from remediator.playbooks.inventory import Inventory, Service
from remediator.playbooks.model import Playbook
from remediator.storage import Store, Tx
from remediator.storage.repositories import key_values
from remediator.storage.schema import attempts, episodes, run_episodes
from remediator.storage.schema import runs as runs_table

NOON = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)

INVENTORY = Inventory.model_validate(
    {
        "apiVersion": "remediator/v1",
        "kind": "Inventory",
        "services": {
            "redis": {"platform": {"kind": "supervisor", "url": "unix:///none", "program": "redis"}},
            "app": {
                "platform": {"kind": "supervisor", "url": "unix:///none", "program": "app"},
                "depends_on": ["redis"],
            },
            "shop": {"platform": {"kind": "kubernetes", "namespace": "shop", "deployment": "shop"}},
            **{
                f"web-{number}": {"platform": {"kind": "supervisor", "url": "unix:///none", "program": "web"}}
                for number in range(10)
            },
        },
    }
)

STEP = PlannedStep(
    id="restart",
    title="Restart",
    action="service.restart",
    parameters={},
    call=PlannedCall("restart it"),
    mutates=True,
    idempotent=False,
    destructive=False,
    timeout=30.0,
    attempts=1,
    backoff=0.0,
    when=None,
    on_success="verify",
    on_failure="next",
    approval=False,
)


class SetClock(SystemClock):
    """A clock that the test sets."""

    def __init__(self, now: datetime = NOON) -> None:
        self.time = now

    def now(self) -> datetime:
        return self.time


class FakePlatform(Platform):
    """A platform whose services have the states that a test sets. Without a state, it does not answer."""

    def __init__(self, kind: str) -> None:
        self.kind = kind  # type: ignore[misc]
        self.services: dict[str, ServiceStatus | Exception] = {}

    async def status(self, service: Service) -> ServiceStatus:
        found = self.services[service.name]
        if isinstance(found, Exception):
            raise found
        return found

    async def logs(self, service: Service, lines: int, *, previous: bool = False) -> str:
        return ""

    def describe_restart(self, service: Service, stop_timeout: float) -> str:
        return f"restart {service.name}"

    async def restart(self, service: Service, pin: Mapping[str, Any], stop_timeout: float) -> None:
        return None


def status(healthy: int, instances: int, state: State = State.RUNNING, **facts_: Any) -> ServiceStatus:
    """Return an observed status of a service."""
    return ServiceStatus(state, f"{healthy} of {instances} run", instances, healthy, {}, None, facts_)


def playbook(name: str = "redis-down", target: str = "redis", **more: Any) -> Playbook:
    """Return a playbook. ``more`` has further keys, such as ``guards``."""
    data = {
        "apiVersion": "remediator/v1",
        "kind": "Playbook",
        "name": name,
        "match": {"alertname": "RedisDown"},
        "mode": "auto",
        "target": target,
        "escalate": {"to": ["oncall"]},
        "about": {"any": "the alerts of these tests have no labels"},
        "conclude": [{"id": "down", "when": "true", "cause": "The target does not run."}],
        "steps": [{"id": "restart", "action": "service.restart", "for": "down"}],
    }
    return Playbook.model_validate({**data, **more})


def alert(number: int = 0, status_: str = "firing", at: datetime = NOON, **labels: str) -> Episode:
    """Return an alert that began at this time."""
    labels = {"alertname": "RedisDown", **labels}
    return Episode(
        id=f"episode-{number}",
        identity=f"identity-{number}",
        status=EpisodeStatus(status_),
        alertname=labels["alertname"],
        labels=labels,
        annotations={},
        started_at=at,
        starts_at=at,
        last_seen_at=at,
        resolved_at=None,
        closes_at=None,
        flaps=0,
    )


def row(run_id: str, playbook_: str, target: str, status_: str, created: datetime, **more: Any) -> dict[str, Any]:
    """Return the columns of a run."""
    return {
        "id": run_id,
        "status": status_,
        "reason": None,
        "detail": {},
        "blocked_by": None,
        "blocked_by_run": None,
        "playbook": playbook_,
        "playbook_hash": "0" * 64,
        "target": target,
        "mode": "auto",
        "engine_version": ENGINE_VERSION,
        "fence": 0,
        "wakeup_count": 0,
        "incident_open": False,
        "holds_target": False,
        "created_at": created,
        "updated_at": created,
        **more,
    }


@dataclass
class Harness:
    """An engine on a store, with methods that write past records and ask its guards."""

    store: Store
    clock: SetClock
    world: ClientSet = field(default_factory=ClientSet)
    platform: FakePlatform = field(default_factory=lambda: FakePlatform("supervisor"))
    context: PipelineContext = field(init=False)

    def __post_init__(self) -> None:
        self.context = PipelineContext(
            store=self.store,
            clock=self.clock,
            ids=Ids(),
            replica="replica-1",
            playbooks=PlaybookSet([], INVENTORY, "test"),
            actions={},
            checks=Registry().make_checks(self.world),
            guards=Registry().make_guards(self.world),
            platforms={"supervisor": self.platform, "kubernetes": self.platform},
            timeouts=Timeouts(probe_timeout=timedelta(seconds=30)),
        )

    async def write(self, work: Any) -> Any:
        """Run a function in a transaction."""
        return await self.store.write(work)

    async def past(self, *rows: dict[str, Any]) -> None:
        """Store past runs."""
        for values in rows:
            await self.write(lambda tx, values=values: tx.connection.execute(insert(runs_table), values))

    async def acted(
        self,
        run_id: str,
        at: datetime,
        *,
        playbook_: str = "redis-down",
        target: str = "redis",
        status_: str = "succeeded",
        ended: datetime | None = None,
        holds: bool = False,
    ) -> None:
        """Store a run that began an action at this time."""
        over = status_ in ("succeeded", "failed", "escalated", "cancelled")
        finished = (ended or at + MINUTE) if over else None
        values = row(run_id, playbook_, target, status_, at, first_action_at=at, finished_at=finished)
        await self.past({**values, "holds_target": holds})
        await self.write(lambda tx: tx.connection.execute(insert(attempts), attempt(run_id, at, playbook_, target)))

    async def fires(self, *alerts: Episode, run: str | None = None) -> None:
        """Store alerts, and add them to a run if one is given."""

        def work(tx: Tx) -> None:
            for item in alerts:
                values = {name: getattr(item, name) for name in Episode.__dataclass_fields__}
                tx.connection.execute(insert(episodes), values)
                if run is not None:
                    values = {"run_id": run, "episode_id": item.id, "joined_at": tx.now}
                    tx.connection.execute(insert(run_episodes), values)

        await self.write(work)

    async def hear_watchdog(self, at: datetime, *, firing: bool = True) -> None:
        """Record that the Watchdog arrived at this time."""
        now, self.clock.time = self.clock.time, at
        await self.write(lambda tx: key_values.set(tx, key_values.WATCHDOG, {"firing": firing}))
        self.clock.time = now

    async def broken(self, table: str) -> None:
        """Remove a table, so that the database cannot be read any more."""
        await self.write(lambda tx: tx.connection.execute(sqlalchemy.text(f"DROP TABLE {table}")))

    async def verdict(
        self,
        guard: str,
        settings: Any = None,
        *,
        target: str = "redis",
        name: str = "redis-down",
        mode: str = "auto",
        alerts: Sequence[Episode] = (),
        step: PlannedStep | None = STEP,
        plan: Plan | None = None,
        run_id: str = "run-now",
        **more: Any,
    ) -> Verdict:
        """Return the verdict of one guard on a run for this target, with these settings in its playbook."""
        guards = {} if settings is None else {guard: settings}
        chosen = playbook(name, target, guards=guards, **more)
        run = self.run(run_id, chosen, mode, plan)
        ctx = RunContext(self.context, run, chosen, INVENTORY.service(target))
        asked = build_input(ctx, alerts, step, await ctx.evidence())
        alone = replace(self.context, guards=[item for item in self.context.guards if item.name == guard])
        judgement: GuardDecision = (await evaluate(alone, asked)).decision
        assert len(judgement.verdicts) == 1
        verdict = judgement.final
        standing = next(item for item in self.context.guards if item.name == guard)
        assert verdict.answer is GuardAnswer.ALLOW or verdict.reason in {*standing.reasons, "guard_error"}
        return verdict

    def run(self, run_id: str, chosen: Playbook, mode: str, plan: Plan | None) -> Run:
        """Return a run that is not in the store."""
        values = row(run_id, chosen.name, chosen.target, "running", self.clock.now(), mode=mode, plan=plan)
        names = [name for name in Run.__dataclass_fields__ if name not in values]
        return Run(**{**dict.fromkeys(names), **values, "status": Status.RUNNING, "detail": RunningDetail()})


def plan_of(*steps: PlannedStep, **parameters: Any) -> Plan:
    """Return a plan with these steps and parameters."""
    return Plan("p", "0" * 64, "redis", "auto", parameters, steps, (), 0.0, 0.0, (), "")


def attempt(run_id: str, at: datetime, playbook_: str, target: str, number: int = 1) -> dict[str, Any]:
    """Return the columns of an attempt."""
    return {
        "id": f"attempt-{run_id}-{number}",
        "run_id": run_id,
        "step": "restart",
        "number": number,
        "action": "service.restart",
        "playbook": playbook_,
        "target": target,
        "mutates": True,
        "is_undo": False,
        "call": {},
        "fence": 1,
        "intent_at": at,
    }
