"""One claimed run with the data for its stages, and a transaction that is bound to the run.

A stage takes one :class:`RunContext`. It reads with :meth:`RunContext.read`, changes the run in a
:class:`RunTransaction`, and returns a :class:`~remediator.pipeline.context.StageResult`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Any, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from remediator.audit import Kind
from remediator.core.plan import Plan
from remediator.core.run import Episode, Reason, Run, Status
from remediator.core.run_detail import AwaitingApprovalDetail, Detail, EscalatedDetail
from remediator.errors import Fenced, StoreUnavailable
from remediator.pipeline.context import PipelineContext
from remediator.pipeline.due_steps import due_steps
from remediator.pipeline.run_changes import RunChanges
from remediator.pipeline.stored_verdicts import StoredVerdicts
from remediator.playbooks.inventory import Service
from remediator.playbooks.model import Playbook
from remediator.storage import Tx, advisory_locks
from remediator.storage.repositories import approvals, attempts, episodes, evidence, run_claims, run_transitions, runs
from remediator.storage.repositories.approvals import Approval
from remediator.storage.repositories.attempts import Attempt
from remediator.storage.repositories.evidence import EvidenceRecord, StoredVerdict

T = TypeVar("T")

_OF_RUN: Sequence[Callable[[Connection, str], Any]] = (
    episodes.list_for_run,
    evidence.list_for_run,
    attempts.list_for_run,
    approvals.list_for_run,
)
"""The data about a run that its stages need."""
_INTENT_LOCK_TIMEOUT = timedelta(seconds=5)
"""How long an intent waits for the intents of other replicas, which take milliseconds to commit."""


class Origin(Enum):
    """How this process got a claimed run."""

    CREATED = "created"
    """This process created the run and claimed it in the same transaction: no other process has worked on it."""
    CLAIMED = "claimed"
    """It read the run from its row."""
    CONTINUED = "continued"
    """It has advanced the run since it claimed it."""


@dataclass(slots=True)
class RunTransaction:
    """One transaction about one run: every change is fenced and every audit entry names the run.

    Every method that changes the run raises ``Fenced`` if this process lost the claim; the transaction is then
    rolled back (promise 4).
    """

    tx: Tx
    """The store's transaction, for repositories that take it."""
    pipeline: PipelineContext
    run: Run
    """The run as this transaction has left it."""

    @property
    def now(self) -> datetime:
        """Return the database's time."""
        return self.tx.now

    @property
    def connection(self) -> Connection:
        """Return the connection inside the transaction."""
        return self.tx.connection

    def move(self, to: Status, reason: Reason | None, detail: Detail, **changes: Any) -> Run:
        """Move the run to another status and write the audit entry of the transition.

        Args:
            to: the new status.
            reason: why the run is in this status.
            detail: the inputs behind the reason, of the type of the new status.
            changes: further columns of the run.

        Raises:
            IllegalTransition: the table of transitions does not have it.
        """
        self.run = run_transitions.transition(self.tx, self.run, to, reason, detail, self.pipeline.actor, **changes)
        return self.run

    def escalate_unrecorded(self, problem: str) -> Run:
        """Escalate a run that differs from the audit log."""
        return self.move(Status.ESCALATED, Reason.NOT_IN_AUDIT_LOG, EscalatedDetail(text=problem))

    def save(self, **changes: Any) -> Run:
        """Change columns of the run; without changes, only check that the claim is still held."""
        self.run = run_claims.save(self.tx, self.run, **changes)
        return self.run

    def set_reason(self, reason: Reason, detail: Detail) -> Run:
        """Change why the run is in its status, without an audit entry of a transition."""
        self.run = run_transitions.set_reason(self.tx, self.run, reason, detail)
        return self.run

    def audit(self, kind: Kind, data: Mapping[str, Any], reason: str | None = None) -> None:
        """Write an audit entry about the run."""
        self.tx.append_audit(runs.draft(kind, self.run, self.pipeline.actor, data, reason))

    def add_evidence(self, records: Iterable[EvidenceRecord]) -> None:
        """Store observations, each with its audit entry."""
        evidence.add(self.tx, self.run, records, self.pipeline.actor)

    def add_verdicts(self, verdicts: Iterable[StoredVerdict]) -> None:
        """Store the verdicts of one evaluation, with one audit entry."""
        evidence.add_verdicts(self.tx, self.run, verdicts, self.pipeline.actor)

    def request_approval(self, plan: Plan, step_id: str | None, reason: Reason, detail: AwaitingApprovalDetail) -> Run:
        """Move the run to ``awaiting_approval`` and send the request, all in this transaction.

        Args:
            plan: the plan of the request.
            step_id: the step of the request; None for every due step.
            reason: the reason of the request.
            detail: the inputs behind the reason.
        """
        steps: tuple[str, ...]
        if step_id is not None:
            steps = (step_id,)
        else:  # the steps that are due, from the cursor of the run on
            service = self.pipeline.playbooks.service(self.run)
            seen = evidence.list_for_run(self.connection, self.run.id)
            tried = [item for item in attempts.list_for_run(self.connection, self.run.id) if not item.is_undo]
            steps = due_steps(plan, (service.name, service.platform.kind), seen, tried, self.run.cursor)
        self.run = approvals.request(
            self.tx, self.pipeline.ids, self.run, plan, step_id, reason, detail, self.pipeline.actor, steps
        )
        return self.run

    def void_request(self, why: str) -> None:
        """Make the pending approval request of the run outdated, if there is one."""
        approvals.void(self.tx, self.run, why, self.pipeline.actor)


@dataclass(slots=True)
class IntentTransaction(RunTransaction):
    """The transaction of an intent. It writes the changes that were not committed with its own, in the same statements.

    Before the run is saved, its rows in the store are unchanged.
    """

    changes: RunChanges
    stored: Run

    def add_evidence(self, records: Iterable[EvidenceRecord]) -> None:
        """Store observations with the run, each with its audit entry."""
        self.changes.add_evidence(records)

    def add_verdicts(self, verdicts: Iterable[StoredVerdict]) -> None:
        """Store the verdicts of one evaluation with the run, with one audit entry."""
        self.changes.add_verdicts(verdicts)

    def save(self, **changes: Any) -> Run:
        """Write all changes of the run. Afterwards everything is in the store."""
        self.run = self.changes.write(self.tx, self.stored, changes)
        self.stored, self.changes = self.run, RunChanges(self.pipeline, self.run)
        return self.run


class RunContext:
    """One claimed run with its dependencies, plan, playbook and service.

    Args:
        pipeline: the dependencies that all runs share.
        run: the run as this process claimed it.
        playbook: used instead of the loaded version; only for runs that are not in the store (``explain``, tests).
        service: used instead of the inventory's entry; only for runs that are not in the store.
        origin: where this process has the run from.
        alerts: the episodes of the run, if this process created it.
    """

    def __init__(
        self,
        pipeline: PipelineContext,
        run: Run,
        playbook: Playbook | None = None,
        service: Service | None = None,
        origin: Origin = Origin.CLAIMED,
        alerts: Sequence[Episode] = (),
    ) -> None:
        self.pipeline = pipeline
        self.run = run
        """The run as of the last committed transaction, with :attr:`changes`."""
        self.is_new = origin is Origin.CREATED
        """Whether no process has worked on the run yet, so it has no evidence, attempts or approvals."""
        self.events_seen = run.wakeup_count
        """The number of events for the run before its stages read anything."""
        self.stored_verdicts: StoredVerdicts | None = None
        """The verdicts of the guards about the plan from the store, if they allowed it since the last commit."""
        self._stored = run
        self._changes = RunChanges(pipeline, run)
        self._known: dict[Callable[..., Any], Any] = {}
        if self.is_new:
            self._known = {query: [] for query in _OF_RUN} | {episodes.list_for_run: list(alerts)}
        self._playbook = playbook
        self._service = service

    @property
    def playbook(self) -> Playbook:
        """Return the version of the playbook that the run started with.

        Raises:
            ConfigurationError: that version is not loaded.
        """
        if self._playbook is None:
            self._playbook = self.pipeline.playbooks.version_for(self.run)
        return self._playbook

    @property
    def service(self) -> Service:
        """Return the target of the run.

        Raises:
            ConfigurationError: the inventory no longer has it.
        """
        if self._service is None:
            self._service = self.pipeline.playbooks.service(self.run)
        return self._service

    @property
    def plan(self) -> Plan:
        """Return the plan of a run that has one."""
        assert self.run.plan is not None, f"run {self.run.id} has no plan in status {self.run.status}"
        return self.run.plan

    def now(self) -> datetime:
        """Return the current time of the store's clock."""
        return self.pipeline.clock.now()

    async def read(self, query: Callable[[Connection, str], T]) -> T:
        """Run a query of a repository that takes the run's ID."""
        return await self.pipeline.store.read(lambda connection: query(connection, self.run.id))

    async def attempts(self) -> list[Attempt]:
        """Return all attempts of the run, oldest first, undo calls included."""
        found: list[Attempt] = await self._read_once(attempts.list_for_run)
        return list(found)

    async def alerts(self) -> list[Episode]:
        """Return the episodes of the run, as this process last read them."""
        found: list[Episode] = await self._read_once(episodes.list_for_run)
        return found

    async def evidence(self) -> list[EvidenceRecord]:
        """Return the observations of the run, oldest first, those that are not committed yet included."""
        found: list[EvidenceRecord] = await self._read_once(evidence.list_for_run)
        return [*found, *self._changes.seen]

    async def approvals(self) -> list[Approval]:
        """Return the approval requests of the run, oldest first."""
        found: list[Approval] = await self._read_once(approvals.list_for_run)
        return found

    async def look(self) -> None:
        """Read in one snapshot all data that the stages of this run need."""
        if not self.is_new:  # this process has just created a new run, and has its data
            found = await self.read(lambda connection, run_id: [query(connection, run_id) for query in _OF_RUN])
            self._known = dict(zip(_OF_RUN, found, strict=True))

    async def _read_once(self, query: Callable[[Connection, str], T]) -> T:
        if query not in self._known:
            self._known[query] = await self.read(query)
        found: T = self._known[query]
        return found

    @property
    def has_changes(self) -> bool:
        """Return whether there are changes that are not committed yet."""
        return bool(self._changes)

    @property
    def planned_here(self) -> bool:
        """Return whether the plan was made by this process and is not committed yet."""
        return self._changes.has_plan

    @property
    def stored(self) -> Run:
        """Return the run as the store has it, without the changes that are not committed yet."""
        return self._stored

    def change(self, work: Callable[[RunChanges], object]) -> None:
        """Change the run without a commit. The changes are committed with the next :meth:`write`, before its work.

        Use this method only for decisions that the next process may make again if this process ends.
        """
        work(self._changes)
        self.run = self._changes.run

    async def flush(self) -> None:
        """Commit the changes that are not committed yet."""
        if self._changes:
            await self.write(lambda tx: None)

    async def write(self, work: Callable[[RunTransaction], T]) -> T:
        """Run ``work`` in a transaction bound to the run; returns its result once that is committed and fsynced.

        ``work`` may run more than once: if the database asks for a repetition, it starts again from the unchanged run.

        Raises:
            Fenced: the claim is gone; nothing was changed.
            StoreUnavailable: probably not committed.
        """
        bound, result = await self._fenced(self.pipeline.store.write(lambda tx: self._bind(tx, work)))
        self._committed(bound.run)
        return result

    async def write_intent(self, work: Callable[[IntentTransaction], T]) -> T:
        """Run ``work`` like :meth:`write`, while no other replica commits an intent. ``work`` must save the run.

        Raises:
            StoreUnavailable: other replicas held the lock for seconds.
        """
        bound, result = await self._fenced(with_intent_lock(self.pipeline, lambda tx: self._bind_intent(tx, work)))
        self._committed(bound.run)
        return result

    async def _fenced(self, writing: Awaitable[T]) -> T:
        """Await a write. A run that the database lost in a failover counts as a run with a lost claim."""
        try:
            return await writing
        except IntegrityError:
            if await self.read(runs.get) is None:
                raise Fenced(f"run {self.run.id} is not in the database any more") from None
            raise

    def _bind(self, tx: Tx, work: Callable[[RunTransaction], T]) -> tuple[RunTransaction, T]:
        run = self._changes.write(tx, self._stored, {}) if self._changes else self._stored
        bound = RunTransaction(tx, self.pipeline, run)
        return bound, work(bound)

    def _bind_intent(self, tx: Tx, work: Callable[[IntentTransaction], T]) -> tuple[RunTransaction, T]:
        changes = self._changes.copy()
        bound = IntentTransaction(tx, self.pipeline, changes.run, changes, self._stored)
        result = work(bound)
        assert not bound.changes, "an intent saves its run"
        return bound, result

    def _committed(self, run: Run) -> None:
        """Continue from a committed transaction, and report its transitions."""
        moves = self._changes.moves
        before = moves[-1][1].status if moves else self._stored.status
        if run.status is not before:
            moves = [*moves, (before, run)]
        self.run = self._stored = run
        self._changes = RunChanges(self.pipeline, run)
        self._known.clear()
        self.stored_verdicts = None
        for was, after in moves:
            self.pipeline.report("transition", after, {"from": was.value})


async def with_intent_lock(pipeline: PipelineContext, work: Callable[[Tx], T]) -> T:
    """Run ``work`` in a transaction while no other replica commits an intent, so that limits count all intents.

    A transaction never waits for the lock, because other transactions may wait for its rows. It fails at once and is
    tried again.

    Raises:
        StoreUnavailable: other replicas held the lock for seconds.
    """

    def locked(tx: Tx) -> T:
        advisory_locks.try_lock(tx.connection, advisory_locks.LOCK_INTENT)
        return work(tx)

    end = pipeline.clock.now() + _INTENT_LOCK_TIMEOUT
    pause = 0.002
    while True:
        try:
            return await pipeline.store.write(locked)
        except advisory_locks.LockUnavailable:
            if pipeline.clock.now() >= end:
                raise StoreUnavailable(
                    f"intent not written: other replicas held the intent lock for {_INTENT_LOCK_TIMEOUT.seconds} s; "
                    "the run is tried again"
                ) from None
        await pipeline.clock.sleep(pause)
        pause = min(pause * 1.5, 0.05)
