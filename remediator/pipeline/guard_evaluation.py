"""Judging: every guard in order, up to the first that does not allow. Doubt holds, it never passes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, TypeVar

from sqlalchemy import Connection

from remediator.core.plan import PlannedStep
from remediator.core.run import Episode, Run, Status
from remediator.errors import RemediatorError, StoreUnavailable
from remediator.extensions.checks.base import Evidence
from remediator.extensions.guards.base import (
    ALLOW,
    Guard,
    GuardAnswer,
    GuardInput,
    Phase,
    RunSummary,
    Settings,
    Verdict,
)
from remediator.extensions.platforms.base import ServiceStatus
from remediator.pipeline import check_runner
from remediator.pipeline.context import PipelineContext, StageResult, wait_until
from remediator.playbooks.inventory import Service
from remediator.playbooks.model import Playbook
from remediator.storage import Tx, advisory_locks
from remediator.storage.repositories import blocked_runs, runs
from remediator.storage.repositories.evidence import StoredVerdict

T = TypeVar("T")

NO_ANSWER = "guard_error"
"""Reason of a guard that raised or did not answer in time."""
_AT_LEAST = timedelta(minutes=1)
"""A run that is held is judged again at least so often: a calendar, a file or a setting may have changed."""
_LOOKS = 20
"""Most looks at held runs in a second, by all replicas, that nothing but time gives cause for."""
_TURN = timedelta(seconds=5)
"""How long an intent waits for the intents of other replicas to be committed; they take milliseconds."""


@dataclass(frozen=True, slots=True)
class GuardDecision:
    """The verdicts up to and including the first that is not *allow*."""

    verdicts: tuple[tuple[str, Verdict], ...]

    @property
    def guard(self) -> str:
        """The guard that decided, or an empty string."""
        return self._decisive[0] if self.final.answer is not GuardAnswer.ALLOW else ""

    @property
    def final(self) -> Verdict:
        """The verdict that counts."""
        return self._decisive[1]

    @property
    def _decisive(self) -> tuple[str, Verdict]:
        against = (item for item in self.verdicts if item[1].answer is not GuardAnswer.ALLOW)
        return next(against, self.verdicts[-1] if self.verdicts else ("", ALLOW))

    def detail(self) -> dict[str, Any]:
        """What people are shown, and what the run's row holds."""
        return {
            "guard": self.guard,
            "text": self.final.text,
            "inputs": dict(self.final.inputs),
            "until": None if self.final.until is None else self.final.until.isoformat(),
        }


@dataclass(slots=True)
class _Sight:
    """What guards may look at, each thing once in a judgement."""

    context: PipelineContext
    service: Service
    _status: ServiceStatus | None = field(default=None)

    async def status(self) -> ServiceStatus:
        if self._status is None:
            self._status = await self.context.look_at(self.service)
        return self._status

    async def check(self, name: str, parameters: Mapping[str, Any]) -> Evidence:
        return await check_runner.observe(self.context, name, self.service, parameters)


def build_input(
    context: PipelineContext,
    run: Run,
    playbook: Playbook,
    service: Service,
    alerts: Sequence[Episode],
    step: PlannedStep | None,
) -> GuardInput:
    """What the guards are asked, before each guard's own settings are put in."""
    moment = Phase.PLAN if step is None else Phase.ACT
    now, sight, inventory = context.clock.now(), _Sight(context, service), context.playbooks.inventory
    return GuardInput(moment, now, run, playbook, service, inventory, alerts, None, sight, step)


def standing(context: PipelineContext, playbook: Playbook) -> list[tuple[Guard, Any]]:
    """The guards that are on for a playbook, with their settings there."""
    off = {item.guard for item in playbook.guards.off}
    return [(guard, _settings(context, guard, playbook)) for guard in context.guards if guard.name not in off]


def _settings(context: PipelineContext, guard: Guard, playbook: Playbook) -> Settings:
    """The installation's settings, with the playbook's over them; a plain value replaces a whole block."""
    common, own = context.guard_defaults.get(guard.name, {}), playbook.guards.settings.get(guard.name, {})
    if isinstance(common, Mapping) and isinstance(own, Mapping):
        return guard.Settings.model_validate({**common, **own})
    return guard.Settings.model_validate(own or common)


async def evaluate(
    context: PipelineContext, asked: GuardInput, overridden: frozenset[str] = frozenset(), *, all_of_them: bool = False
) -> GuardDecision:
    """Ask the world and the store, guard by guard.

    The store is read once for all guards; the world is not asked beyond the guard at which the store says no.

    Args:
        asked: about what.
        overridden: guards whose "cannot tell" a person has answered by approving.
        all_of_them: do not end at the first that does not allow: people want to see everything that is in the way.
    """
    guards = [(guard, replace(asked, settings=settings)) for guard, settings in standing(context, asked.playbook)]
    local = await _read(context, guards)
    verdicts: list[tuple[str, Verdict]] = []
    for (guard, own), stored in zip(guards, local, strict=True):
        verdict = _heard(await _bounded(context, guard, guard.evaluate_live(own)), stored)
        verdicts.append((guard.name, _overridden(guard, verdict, overridden)))
        if verdicts[-1][1].answer is not GuardAnswer.ALLOW and not all_of_them:
            break
    return GuardDecision(tuple(verdicts))


def _heard(world: Verdict, stored: Verdict) -> Verdict:
    if world.answer is not GuardAnswer.ALLOW or (stored.answer is GuardAnswer.ALLOW and not stored.inputs):
        return world
    return stored


def _overridden(guard: Guard, verdict: Verdict, overridden: frozenset[str]) -> Verdict:
    if verdict.answer is GuardAnswer.UNKNOWN and guard.name in overridden:
        return replace(verdict, answer=GuardAnswer.ALLOW, text=f"{verdict.text} (a person approved all the same)")
    return verdict


async def _read(context: PipelineContext, guards: Sequence[tuple[Guard, GuardInput]]) -> list[Verdict]:
    try:
        return await context.store.read(lambda connection: [_decide(guard, connection, own) for guard, own in guards])
    except StoreUnavailable as error:
        return [_no_answer(guard, error) if _decides(guard) else ALLOW for guard, _ in guards]


def _decides(guard: Guard) -> bool:
    return type(guard).evaluate_stored is not Guard.evaluate_stored


def _decide(guard: Guard, connection: Connection, asked: GuardInput) -> Verdict:
    try:
        return guard.evaluate_stored(connection, asked)
    except (RemediatorError, ValueError) as error:
        return _no_answer(guard, error)


def _no_answer(guard: Guard, error: Exception) -> Verdict:
    return Verdict(GuardAnswer.UNKNOWN, NO_ANSWER, f"{guard.name} could not look: {error}")


def decide_again(
    context: PipelineContext, connection: Connection, asked: GuardInput, overridden: frozenset[str] = frozenset()
) -> GuardDecision:
    """Only what the store answers, inside the transaction that commits an intent: here budgets cannot be overdrawn.

    Call it only in a transaction that :func:`intend` runs.
    """
    verdicts: list[tuple[str, Verdict]] = []
    for guard, settings in standing(context, asked.playbook):
        verdict = _overridden(guard, _decide(guard, connection, replace(asked, settings=settings)), overridden)
        verdicts.append((guard.name, verdict))
        if verdict.answer is not GuardAnswer.ALLOW:
            break
    return GuardDecision(tuple(verdicts))


async def intend(context: PipelineContext, work: Callable[[Tx], T]) -> T:
    """Write an intent while no other replica does: what one counts, the next must see.

    The turn is never waited for inside the transaction, where others may wait for rows that it holds; it is tried
    again instead.

    Raises:
        StoreUnavailable: other replicas kept it for seconds.
    """

    def in_turn(tx: Tx) -> T:
        advisory_locks.try_lock(tx.connection, advisory_locks.LOCK_INTENT)
        return work(tx)

    end = context.clock.now() + _TURN
    pause = 0.002
    while True:
        try:
            return await context.store.write(in_turn)
        except advisory_locks.LockUnavailable:
            if context.clock.now() >= end:
                raise StoreUnavailable("other replicas write their intents; it is not this one's turn") from None
        await context.clock.sleep(pause)
        pause = min(pause * 1.5, 0.05)


async def check_regression(
    context: PipelineContext, asked: GuardInput, before: Sequence[StoredVerdict]
) -> GuardDecision:
    """After a step: whether any guard sees that things are worse than before it.

    Args:
        asked: with the step that was done.
        before: the run's verdicts so far.
    """
    verdicts = []
    for guard, settings in standing(context, asked.playbook):
        if type(guard).check_regression is Guard.check_regression:
            continue
        seen = next((item.inputs for item in before if item.guard == guard.name and item.phase == Phase.ACT), {})
        own = replace(asked, settings=settings, phase=Phase.VERIFY)
        verdicts.append((guard.name, await _bounded(context, guard, guard.check_regression(own, seen))))
    return GuardDecision(tuple(verdicts))


async def _bounded(context: PipelineContext, guard: Guard, answer: Awaitable[Verdict]) -> Verdict:
    try:
        async with asyncio.timeout(context.pace.probe.total_seconds()):
            return await answer
    except TimeoutError:
        text = f"{guard.name} gave no answer within {context.pace.probe.total_seconds():g} s"
        return Verdict(GuardAnswer.UNKNOWN, NO_ANSWER, text)
    except (RemediatorError, ValueError) as error:
        return _no_answer(guard, error)


def on_run_finished(tx: Tx, context: PipelineContext, run: Run) -> None:
    """A run has ended: wake runs that waited for that, and let guards write down what they learn from it."""
    blocked_runs.schedule_next(tx, [guard.name for guard in context.guards if guard.waits_for_runs], run)
    if run.first_action_at is None:
        return
    playbook = context.playbooks.of(run)
    written = playbook.mode_in(context.playbooks.environment)
    for guard, settings in standing(context, playbook):
        guard.on_run_finished(tx, RunSummary(run, playbook, written, settings, context.ids, context.actor))


def to_records(asked: GuardInput, judgement: GuardDecision) -> Iterable[StoredVerdict]:
    """The verdicts as they are stored."""
    step = None if asked.step is None else asked.step.id
    for name, verdict in judgement.verdicts:
        inputs = dict(verdict.inputs) | ({"text": verdict.text} if verdict.text else {})
        reason = verdict.reason or None
        yield StoredVerdict(asked.now, asked.phase.value, step, name, verdict.answer.value, reason, inputs)


def again_at(context: PipelineContext, verdict: Verdict, now: datetime, held: int) -> datetime:
    """When a held run is judged again: when its verdict says so, but not in hours, since people change their minds.

    Args:
        held: runs that are held in all: thousands are looked at less often each, so that judging them leaves time for
            what is being done.
    """
    in_turn = timedelta(seconds=held / _LOOKS)
    until = verdict.until or now + max(context.pace.recheck, in_turn)
    return min(until, now + max(_AT_LEAST, in_turn))


def block(tx: Tx, context: PipelineContext, run: Run, judgement: GuardDecision, resume_to: Status) -> StageResult:
    """Hold a run, with the verdict's reason, until it makes sense to ask again."""
    until = again_at(context, judgement.final, tx.now, blocked_runs.count(tx.connection))
    reason = f"{judgement.guard}:{judgement.final.reason}"
    after = runs.transition(tx, run, Status.BLOCKED, reason, judgement.detail(), context.actor, resume_to=resume_to)
    return wait_until(after, until)
