"""Evaluate the guards in order, up to the first that does not allow. *Unknown* never passes (promise 5)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from remediator.core.plan import PlannedStep
from remediator.core.run import Episode, Reason, Run, Status
from remediator.core.run_detail import BlockedDetail
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
from remediator.pipeline import check_runner, held_back
from remediator.pipeline.context import PipelineContext, StageResult, wait_until
from remediator.pipeline.run_context import RunContext, RunTransaction
from remediator.playbooks.inventory import Service
from remediator.playbooks.model import Playbook
from remediator.storage import Tx
from remediator.storage.repositories import blocked_runs
from remediator.storage.repositories.evidence import StoredVerdict

NO_ANSWER = "guard_error"
"""Reason of a guard that raised or did not answer in time."""
_MAX_RECHECK_INTERVAL = timedelta(minutes=1)
"""A blocked run is evaluated again at least this often: a calendar, a file or a setting may have changed."""
_RECHECKS_PER_SECOND = 20
"""How many blocked runs all replicas together evaluate again in a second when only time gives a cause."""


@dataclass(frozen=True, slots=True)
class GuardDecision:
    """The verdicts up to and including the first that is not *allow*."""

    verdicts: tuple[tuple[str, Verdict], ...]

    @property
    def guard(self) -> str:
        """Return the guard that did not allow; empty if all did."""
        return self._decisive[0] if self.final.answer is not GuardAnswer.ALLOW else ""

    @property
    def final(self) -> Verdict:
        """Return the verdict that counts."""
        return self._decisive[1]

    @property
    def allowed(self) -> bool:
        """Return whether every guard allows."""
        return self.final.answer is GuardAnswer.ALLOW

    @property
    def _decisive(self) -> tuple[str, Verdict]:
        against = (item for item in self.verdicts if item[1].answer is not GuardAnswer.ALLOW)
        return next(against, self.verdicts[-1] if self.verdicts else ("", ALLOW))

    def detail_fields(self) -> dict[str, Any]:
        """Return the fields of a :class:`~remediator.core.run_detail.GuardDetail`."""
        return {
            "guard": self.guard,
            "guard_reason": self.final.reason,
            "text": self.final.text,
            "inputs": dict(self.final.inputs),
            "until": self.final.until,
        }

    def records(self, asked: GuardInput) -> Iterable[StoredVerdict]:
        """Return the verdicts as they are stored."""
        step = None if asked.step is None else asked.step.id
        for name, verdict in self.verdicts:
            inputs = dict(verdict.inputs) | ({"text": verdict.text} if verdict.text else {})
            reason = verdict.reason or None
            yield StoredVerdict(asked.now, asked.phase.value, step, name, verdict.answer.value, reason, inputs)


@dataclass(slots=True)
class _TargetView:
    """What guards may look at, each thing once in an evaluation."""

    context: PipelineContext
    service: Service
    _status: ServiceStatus | None = field(default=None)

    async def status(self) -> ServiceStatus:
        if self._status is None:
            self._status = await self.context.service_status(self.service)
        return self._status

    async def check(self, name: str, parameters: Mapping[str, Any]) -> Evidence:
        return await check_runner.observe(self.context, name, self.service, parameters)


def build_input(ctx: RunContext, alerts: Sequence[Episode], step: PlannedStep | None) -> GuardInput:
    """Return what the guards are asked, before each guard's own settings are filled in.

    Args:
        ctx: the run.
        alerts: the episodes that the run is for.
        step: the step about to be done; None to evaluate the plan as a whole.
    """
    return GuardInput(
        phase=Phase.PLAN if step is None else Phase.ACT,
        now=ctx.now(),
        run=ctx.run,
        playbook=ctx.playbook,
        service=ctx.service,
        inventory=ctx.pipeline.playbooks.inventory,
        episodes=alerts,
        settings=None,
        view=_TargetView(ctx.pipeline, ctx.service),
        step=step,
    )


def active_guards(context: PipelineContext, playbook: Playbook) -> list[tuple[Guard, Any]]:
    """Return the guards that are on for a playbook, each with its settings there."""
    off = {item.guard for item in playbook.guards.off}
    return [(guard, _settings(context, guard, playbook)) for guard in context.guards if guard.name not in off]


def _settings(context: PipelineContext, guard: Guard, playbook: Playbook) -> Settings:
    """Return the installation's settings, overridden by the playbook's; a plain value replaces a whole block."""
    common, own = context.guard_defaults.get(guard.name, {}), playbook.guards.settings.get(guard.name, {})
    if isinstance(common, Mapping) and isinstance(own, Mapping):
        return guard.Settings.model_validate({**common, **own})
    return guard.Settings.model_validate(own or common)


async def evaluate(
    context: PipelineContext,
    asked: GuardInput,
    overridden: frozenset[str] = frozenset(),
    *,
    all_guards: bool = False,
    undo: bool = False,
) -> GuardDecision:
    """Evaluate the guards, each from the store and from the live systems.

    The store is read once for all guards. Live systems are not asked beyond the first guard that does not allow.

    Args:
        context: has the guards.
        asked: what they are asked.
        overridden: guards whose *unknown* a person has approved.
        all_guards: do not stop at the first guard that does not allow, to show everything that is in the way.
        undo: evaluate only the guards that apply to an undo.
    """
    guards = [
        (guard, replace(asked, settings=settings))
        for guard, settings in active_guards(context, asked.playbook)
        if guard.applies_to_undo or not undo
    ]
    try:
        stored = await context.store.read(
            lambda connection: [_evaluate_stored(guard, connection, own) for guard, own in guards]
        )
    except StoreUnavailable as error:
        needs_store = [type(guard).evaluate_stored is not Guard.evaluate_stored for guard, _ in guards]
        stored = [
            _no_answer(guard, error) if needs else ALLOW for (guard, _), needs in zip(guards, needs_store, strict=True)
        ]
    verdicts: list[tuple[str, Verdict]] = []
    for (guard, own), from_store in zip(guards, stored, strict=True):
        verdict = await _bounded(context, guard, guard.evaluate_live(own))
        if verdict.answer is GuardAnswer.ALLOW and (from_store.answer is not GuardAnswer.ALLOW or from_store.inputs):
            verdict = from_store
        verdicts.append((guard.name, _override(guard, verdict, overridden)))
        if verdicts[-1][1].answer is not GuardAnswer.ALLOW and not all_guards:
            break
    return GuardDecision(tuple(verdicts))


def reevaluate_stored(
    context: PipelineContext, connection: Connection, asked: GuardInput, overridden: frozenset[str] = frozenset()
) -> GuardDecision:
    """Evaluate only what the store answers, inside the transaction that commits an intent: no limit can be exceeded.

    Call it only in a transaction of :meth:`RunContext.write_intent`.
    """
    verdicts: list[tuple[str, Verdict]] = []
    for guard, settings in active_guards(context, asked.playbook):
        verdict = _override(guard, _evaluate_stored(guard, connection, replace(asked, settings=settings)), overridden)
        verdicts.append((guard.name, verdict))
        if verdict.answer is not GuardAnswer.ALLOW:
            break
    return GuardDecision(tuple(verdicts))


async def check_regression(
    context: PipelineContext, asked: GuardInput, before: Sequence[StoredVerdict]
) -> GuardDecision:
    """Return whether any guard finds that things are worse than before a step.

    Args:
        context: has the guards.
        asked: with the step that was done.
        before: the run's verdicts so far.
    """
    verdicts = []
    for guard, settings in active_guards(context, asked.playbook):
        if type(guard).check_regression is Guard.check_regression:
            continue
        first = next((item.inputs for item in before if item.guard == guard.name and item.phase == Phase.ACT), {})
        own = replace(asked, settings=settings, phase=Phase.VERIFY)
        verdicts.append((guard.name, await _bounded(context, guard, guard.check_regression(own, first))))
    return GuardDecision(tuple(verdicts))


def _override(guard: Guard, verdict: Verdict, overridden: frozenset[str]) -> Verdict:
    if verdict.answer is GuardAnswer.UNKNOWN and guard.name in overridden:
        return replace(verdict, answer=GuardAnswer.ALLOW, text=f"{verdict.text} (overridden by an approval)")
    return verdict


def _evaluate_stored(guard: Guard, connection: Connection, asked: GuardInput) -> Verdict:
    try:
        return guard.evaluate_stored(connection, asked)
    except (RemediatorError, ValueError) as error:
        return _no_answer(guard, error)


async def _bounded(context: PipelineContext, guard: Guard, answer: Awaitable[Verdict]) -> Verdict:
    limit = context.timeouts.probe_timeout.total_seconds()
    try:
        async with asyncio.timeout(limit):
            return await answer
    except TimeoutError:
        return Verdict(GuardAnswer.UNKNOWN, NO_ANSWER, f"guard {guard.name} gave no answer within {limit:g} s")
    except (RemediatorError, ValueError) as error:
        return _no_answer(guard, error)


def _without_store(guard: Guard, error: Exception) -> Verdict:
    needs_store = type(guard).evaluate_stored is not Guard.evaluate_stored
    return _no_answer(guard, error) if needs_store else ALLOW


def _no_answer(guard: Guard, error: Exception) -> Verdict:
    return Verdict(GuardAnswer.UNKNOWN, NO_ANSWER, f"guard {guard.name} failed: {error}")


def on_run_finished(tx: Tx, context: PipelineContext, run: Run) -> None:
    """Schedule the runs that waited for the end of this one, and let the guards record what follows from it."""
    blocked_runs.schedule_next(tx, [guard.name for guard in context.guards if guard.waits_for_runs], run)
    if run.first_action_at is None:
        return
    playbook = context.playbooks.version_for(run)
    written = playbook.mode_in(context.playbooks.environment)
    for guard, settings in active_guards(context, playbook):
        guard.on_run_finished(tx, RunSummary(run, playbook, written, settings, context.ids, context.actor))


def next_evaluation_at(context: PipelineContext, verdict: Verdict, now: datetime, blocked: int) -> datetime:
    """Return when a blocked run is evaluated again: when its verdict says so, but at the latest after a minute.

    Args:
        context: has the interval.
        verdict: why the run is blocked.
        now: the current time.
        blocked: number of blocked runs. With thousands, each is evaluated less often, so that evaluation leaves time
            for the runs that act.
    """
    in_turn = timedelta(seconds=blocked / _RECHECKS_PER_SECOND)
    until = verdict.until or now + max(context.timeouts.guard_recheck_interval, in_turn)
    return min(until, now + max(_MAX_RECHECK_INTERVAL, in_turn))


def block(tx: RunTransaction, asked: GuardInput, decision: GuardDecision, resume_to: Status) -> StageResult:
    """Block the run, with the verdict's reason, until the guards are evaluated again.

    People are notified in the same transaction if that is due at once.
    """
    until = next_evaluation_at(tx.pipeline, decision.final, tx.now, blocked_runs.count(tx.connection))
    detail = BlockedDetail(**decision.detail_fields(), since=tx.now)
    after = tx.move(Status.BLOCKED, Reason.GUARD_BLOCKED, detail, resume_to=resume_to)
    notice_at = held_back.notify_if_due(tx, asked, detail)
    return wait_until(after, until if notice_at is None else min(until, notice_at))
