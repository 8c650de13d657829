"""Evaluate the guards in order, up to the first that does not allow. *Unknown* never passes (promise 5)."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Mapping, Sequence
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
from remediator.pipeline.stored_verdicts import StoredVerdicts
from remediator.playbooks.inventory import Service
from remediator.playbooks.model import Playbook
from remediator.storage import Tx
from remediator.storage.repositories import blocked_runs
from remediator.storage.repositories.evidence import EvidenceRecord, StoredVerdict, established_causes

NO_ANSWER = "guard_error"
"""Reason of a guard that raised or did not answer in time."""
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
        """Return the verdicts in their stored form."""
        step = None if asked.step is None else asked.step.id
        for name, verdict in self.verdicts:
            inputs = dict(verdict.inputs) | ({"text": verdict.text} if verdict.text else {})
            reason = verdict.reason or None
            yield StoredVerdict(asked.now, asked.phase.value, step, name, verdict.answer.value, reason, inputs)


@dataclass(slots=True)
class _TargetView:
    """The observations of guards, each made once in an evaluation."""

    context: PipelineContext
    service: Service
    _status: ServiceStatus | None = field(default=None)
    _asking: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def status(self) -> ServiceStatus:
        async with self._asking:  # evaluate these guards in parallel
            if self._status is None:
                self._status = await self.context.service_status(self.service)
            return self._status

    async def check(self, name: str, parameters: Mapping[str, Any]) -> Evidence:
        return await check_runner.observe(self.context, name, self.service, parameters)


def build_input(
    ctx: RunContext, alerts: Sequence[Episode], step: PlannedStep | None, seen: Sequence[EvidenceRecord] = ()
) -> GuardInput:
    """Return the input of the guards, without the settings of each guard.

    Args:
        ctx: the run.
        alerts: the episodes that the run is for.
        step: the next step; None to evaluate the whole plan.
        seen: the observations of the run.
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
        causes=established_causes(seen),
    )


def active_guards(context: PipelineContext, playbook: Playbook) -> Sequence[tuple[Guard, Settings]]:
    """Return the guards that are on for a playbook, each with its settings there."""
    known = context.playbooks.guard_settings
    found = known.get(playbook.content_hash)
    if found is None:
        off = {item.guard for item in playbook.guards.off}
        chosen = (guard for guard in context.guards if guard.name not in off)
        found = known[playbook.content_hash] = tuple((guard, _settings(context, guard, playbook)) for guard in chosen)
    return found


def _settings(context: PipelineContext, guard: Guard, playbook: Playbook) -> Settings:
    """Return the installation's settings, overridden by the playbook's; a plain value replaces a whole block."""
    common, own = context.guard_defaults.get(guard.name, {}), playbook.guards.settings.get(guard.name, {})
    if isinstance(common, Mapping) and isinstance(own, Mapping):
        return guard.Settings.model_validate({**common, **own})
    return guard.Settings.model_validate(own or common)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The answers of the guards for one run: from the live systems, and from the store when it was last read."""

    asked: GuardInput
    overridden: frozenset[str]
    guards: Sequence[tuple[Guard, GuardInput]]
    """The guards that are on, each with its own settings in the input."""
    stored: StoredVerdicts
    live: Sequence[Verdict]
    """The answers of the live systems; shorter than ``guards`` if the store refuses before the other guards are asked.
    """
    decision: GuardDecision

    def decide_again(self, tx: Tx) -> GuardDecision:
        """Decide from the live answers and from the current store.

        Call it only in a transaction of :meth:`RunContext.write_intent`, so that no limit can be exceeded. A guard is
        not evaluated again if nothing was committed since its last answer.
        """
        version = tx.version()
        stored = (
            self.stored.of(guard, tx.now, version) or _evaluate_stored(guard, tx.connection, replace(own, now=tx.now))
            for guard, own in self.guards
        )
        return _decide(self.guards, stored, self.live, self.overridden)


async def evaluate(
    context: PipelineContext,
    asked: GuardInput,
    overridden: frozenset[str] = frozenset(),
    *,
    all_guards: bool = False,
    undo: bool = False,
    stored: StoredVerdicts | None = None,
) -> Evaluation:
    """Evaluate the guards, each from the store and from the live systems.

    The store is read once for all guards. The live systems are queried in parallel, but only up to the first guard that
    the store makes not allow.

    Args:
        context: has the guards.
        asked: the input of the guards.
        overridden: guards whose *unknown* a person has approved.
        all_guards: do not stop at the first guard that does not allow, to show all blocking guards.
        undo: evaluate only the guards that apply to an undo.
        stored: recent answers from the store, if they allowed everything and the transaction of the intent reads the
            store again. The store is then not read here.
    """
    guards = [
        (guard, replace(asked, settings=settings))
        for guard, settings in active_guards(context, asked.playbook)
        if guard.applies_to_undo or not undo
    ]
    if stored is None:
        stored = await _read_stored(context, asked.now, guards)
        said = [stored.verdicts[guard.name] for guard, _ in guards]
    else:
        said = [ALLOW] * len(guards)
    refusals = (
        number
        for number, ((guard, _), verdict) in enumerate(zip(guards, said, strict=True), start=1)
        if _override(guard, verdict, overridden).answer is not GuardAnswer.ALLOW
    )
    asking = guards if all_guards else guards[: next(refusals, len(guards))]
    live = await _ask_live(context, asking)
    decision = _decide(guards, said, live, overridden, all_guards=all_guards)
    return Evaluation(asked, overridden, guards, stored, live, decision)


async def _read_stored(
    context: PipelineContext, now: datetime, guards: Sequence[tuple[Guard, GuardInput]]
) -> StoredVerdicts:
    version = context.store.version
    try:
        verdicts = await context.store.read(
            lambda connection: {guard.name: _evaluate_stored(guard, connection, own) for guard, own in guards}
        )
    except StoreUnavailable as error:
        asks_store = {guard.name: type(guard).evaluate_stored is not Guard.evaluate_stored for guard, _ in guards}
        verdicts = {guard.name: _no_answer(guard, error) if asks_store[guard.name] else ALLOW for guard, _ in guards}
        version = None
    return StoredVerdicts(now, version, verdicts)


async def _ask_live(context: PipelineContext, guards: Sequence[tuple[Guard, GuardInput]]) -> Sequence[Verdict]:
    """Return the verdict of ``evaluate_live`` for each guard; *allow* for a guard that does not implement it."""
    asked = {
        number: (guard, guard.evaluate_live(own))
        for number, (guard, own) in enumerate(guards)
        if type(guard).evaluate_live is not Guard.evaluate_live
    }
    answers = dict(zip(asked, await _ask(context, list(asked.values())), strict=True))
    return [answers.get(number, ALLOW) for number in range(len(guards))]


async def _ask(
    context: PipelineContext, questions: Sequence[tuple[Guard, Coroutine[Any, Any, Verdict]]]
) -> Sequence[Verdict]:
    """Return the answers of guards that are asked side by side; *unknown* for each one that gives none in time."""
    limit = context.timeouts.probe_timeout.total_seconds()
    answers = [asyncio.ensure_future(question) for _, question in questions]
    try:
        if answers:
            await asyncio.wait(answers, timeout=limit)
        return [_answered(guard, answer, limit) for (guard, _), answer in zip(questions, answers, strict=True)]
    finally:
        for answer in answers:
            answer.cancel()


def _answered(guard: Guard, answer: asyncio.Future[Verdict], limit: float) -> Verdict:
    if not answer.done():
        return _no_answer_in_time(guard, limit)
    try:
        return answer.result()
    except TimeoutError:
        return _no_answer_in_time(guard, limit)
    except (RemediatorError, ValueError) as error:
        return _no_answer(guard, error)


def _decide(
    guards: Sequence[tuple[Guard, GuardInput]],
    stored: Iterable[Verdict],
    live: Sequence[Verdict],
    overridden: frozenset[str],
    *,
    all_guards: bool = False,
) -> GuardDecision:
    """Return the verdicts in order. If the live answer of a guard allows, the answer from the store counts."""
    verdicts: list[tuple[str, Verdict]] = []
    for (guard, _), from_store, verdict in zip(guards, stored, live, strict=False):
        if verdict.answer is GuardAnswer.ALLOW and (from_store.answer is not GuardAnswer.ALLOW or from_store.inputs):
            verdict = from_store
        verdicts.append((guard.name, _override(guard, verdict, overridden)))
        if verdicts[-1][1].answer is not GuardAnswer.ALLOW and not all_guards:
            break
    return GuardDecision(tuple(verdicts))


async def check_regression(
    context: PipelineContext, asked: GuardInput, before: Sequence[StoredVerdict]
) -> GuardDecision:
    """Return whether any guard finds a worse signal than before a step.

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
        [verdict] = await _ask(context, [(guard, guard.check_regression(own, first))])
        verdicts.append((guard.name, verdict))
    return GuardDecision(tuple(verdicts))


def _override(guard: Guard, verdict: Verdict, overridden: frozenset[str]) -> Verdict:
    if verdict.answer is GuardAnswer.UNKNOWN and guard.name in overridden:
        return replace(verdict, answer=GuardAnswer.ALLOW, text=f"{verdict.text} (overridden by an approval)")
    return verdict


def _evaluate_stored(guard: Guard, connection: Connection, asked: GuardInput) -> Verdict:
    if type(guard).evaluate_stored is Guard.evaluate_stored:
        return ALLOW
    try:
        return guard.evaluate_stored(connection, asked)
    except (RemediatorError, ValueError) as error:
        return _no_answer(guard, error)


def _no_answer_in_time(guard: Guard, limit: float) -> Verdict:
    return Verdict(GuardAnswer.UNKNOWN, NO_ANSWER, f"guard {guard.name} gave no answer within {limit:g} s")


def _no_answer(guard: Guard, error: Exception) -> Verdict:
    return Verdict(GuardAnswer.UNKNOWN, NO_ANSWER, f"guard {guard.name} failed: {error}")


def on_run_finished(tx: Tx, context: PipelineContext, run: Run) -> None:
    """Schedule the runs that waited for the end of this run, and call the guards, which record the consequences."""
    blocked_runs.schedule_next(tx, [guard.name for guard in context.guards if guard.waits_for_runs], run)
    if run.first_action_at is None:
        return
    playbook = context.playbooks.version_for(run)
    written = playbook.mode_in(context.playbooks.environment)
    for guard, settings in active_guards(context, playbook):
        guard.on_run_finished(tx, RunSummary(run, playbook, written, settings, context.ids, context.actor))


def next_evaluation_at(context: PipelineContext, verdict: Verdict, now: datetime, blocked: int) -> datetime:
    """Return when a blocked run is evaluated again: at the time of its verdict, but at the latest after
    ``max_guard_recheck_interval``.

    Args:
        context: has the intervals.
        verdict: why the run is blocked.
        now: the current time.
        blocked: number of blocked runs. With thousands of blocked runs, each run is evaluated less often, to leave time
            for acting runs.
    """
    in_turn = timedelta(seconds=blocked / _RECHECKS_PER_SECOND)
    until = verdict.until or now + max(context.timeouts.guard_recheck_interval, in_turn)
    return min(until, now + max(context.timeouts.max_guard_recheck_interval, in_turn))


def block(tx: RunTransaction, asked: GuardInput, decision: GuardDecision, resume_to: Status) -> StageResult:
    """Block the run, with the verdict's reason, until the guards are evaluated again.

    People are notified in the same transaction if that is due at once.
    """
    until = next_evaluation_at(tx.pipeline, decision.final, tx.now, blocked_runs.count(tx.connection))
    detail = BlockedDetail(**decision.detail_fields(), since=tx.now)
    after = tx.move(Status.BLOCKED, Reason.GUARD_BLOCKED, detail, resume_to=resume_to)
    notice_at = held_back.notify_if_due(tx, asked, detail)
    return wait_until(after, until if notice_at is None else min(until, notice_at))
