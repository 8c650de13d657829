"""Remember per target which releases were rolled back and which remedies did not help (promise 12).

Everything is written in the transaction of the outcome or of the verification that showed it. So a restart loses
nothing, and every replica reads the same. Planning reads it: a rollback never restores a release that was rolled back.
The guard ``remedy_memory`` asks a person before a remedy that did not help runs again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from remediator.core.outcome import Outcome
from remediator.core.plan import Plan, PlannedCall, PlannedStep
from remediator.core.release import ReleaseChange, Verdict
from remediator.core.run import Run
from remediator.extensions.actions.base import RELEASES, Action
from remediator.extensions.guards.base import clock_time
from remediator.pipeline.context import PipelineContext
from remediator.pipeline.run_context import RunContext, RunTransaction
from remediator.playbooks.inventory import Service
from remediator.storage import Tx
from remediator.storage.repositories import attempts, evidence, remedy_memory
from remediator.storage.repositories.attempts import Attempt
from remediator.storage.repositories.evidence import EvidenceRecord
from remediator.storage.repositories.remedy_memory import NO_HELP, MemoryEntry, MemoryKind, Subject, remedy_key


async def load_releases(pipeline: PipelineContext, action: Action, service: Service) -> None:
    """Give an action that reads or changes releases the stored memory of the releases of its target."""
    if action.reads_releases:
        RELEASES.set(await pipeline.store.read(lambda connection: remedy_memory.releases_of(connection, service.name)))


async def annotate(ctx: RunContext, plan: Plan, seen: Sequence[EvidenceRecord]) -> Plan:
    """Return the plan with a note at each step that did not help on this target before. Its hash stays the same.

    Args:
        ctx: the run.
        plan: its new plan.
        seen: the evidence behind the plan.
    """
    causes = evidence.established_causes(seen)
    steps = {remedy_key(step, causes): step for step in plan.steps if step.mutates}
    found = await ctx.pipeline.store.read(lambda connection: remedy_memory.find_remedies(connection, ctx.run, steps))
    notes = {steps[key].id: describe(entry, ctx.now()) for key, entry in found.items()}
    return msgspec.structs.replace(plan, steps=tuple(_with_note(step, notes.get(step.id)) for step in plan.steps))


def _with_note(step: PlannedStep, note: str | None) -> PlannedStep:
    if note is None:
        return step
    measured = "; ".join(text for text in (step.call.measurement, note) if text)
    return msgspec.structs.replace(step, call=msgspec.structs.replace(step.call, measurement=measured))


def describe(entry: MemoryEntry, now: datetime) -> str:
    """Return the memory of a remedy, as text for people."""
    return f"it did not help {entry.target} at {clock_time(entry.at, now)} (run {entry.run_id}): {entry.reason}"


def record_outcome(
    tx: RunTransaction, step: PlannedStep, attempt: Attempt, outcome: Outcome, data: Mapping[str, Any]
) -> None:
    """Store the consequences of the outcome of an attempt: a release that was rolled back, a remedy that failed.

    Call it in the transaction of the outcome.
    """
    change = release_change(attempt)
    if attempt.is_undo:
        if outcome is Outcome.OK:
            _forget_rollbacks(tx, step)
        return
    changed_nothing = "happened" in data or "error" in (data.get("output") or {})
    # A failed call may have left the release, and an unknown one as well. If it did not, the release is in use still.
    if change is not None and not (outcome is Outcome.FAILED and changed_nothing):
        reason = f"run {tx.run.id} rolled {tx.run.target} back from it"
        _remember(tx, Subject(MemoryKind.RELEASE, change.left, change.left_name), Verdict.BAD, reason)
    if outcome is Outcome.FAILED and not changed_nothing:
        record_no_help(tx, step, str(data.get("summary", "")))


def release_change(attempt: Attempt) -> ReleaseChange | None:
    """Return the old and the new release of an attempt; None if it changed no release."""
    return msgspec.convert(attempt.call, PlannedCall).release_change


def _forget_rollbacks(tx: RunTransaction, step: PlannedStep) -> None:
    """Forget the verdicts of a rollback that was undone: the release is in use again, on purpose."""
    for attempt in attempts.list_for_run(tx.connection, tx.run.id):
        change = release_change(attempt)
        if attempt.step == step.id and not attempt.is_undo and change is not None:
            actor = tx.pipeline.actor
            remedy_memory.forget(tx.tx, tx.run, MemoryKind.RELEASE, change.left, "rollback undone", actor)


def record_no_help(tx: RunTransaction, step: PlannedStep, reason: str) -> None:
    """Remember that a step was done and the target was not healed. Call it in the transaction that finds this out."""
    key = remedy_key(step, _causes_of_step(tx, tx.run, step))
    _remember(tx, Subject(MemoryKind.REMEDY, key, step.call.text), NO_HELP, reason)


def record_healed(tx: RunTransaction, step: PlannedStep) -> None:
    """Remember that the target was proved healed: releases that this run restored are good, and the step helps."""
    for attempt in attempts.list_for_run(tx.connection, tx.run.id):
        change = release_change(attempt)
        if change is not None and not attempt.is_undo and attempt.outcome == Outcome.OK.value:
            reason = f"run {tx.run.id} restored it, and {tx.run.target} was verified"
            restored = Subject(MemoryKind.RELEASE, change.restored, change.restored_name)
            _remember(tx, restored, Verdict.GOOD, reason)
    key = remedy_key(step, _causes_of_step(tx, tx.run, step))
    remedy_memory.forget(tx.tx, tx.run, MemoryKind.REMEDY, key, "helped", tx.pipeline.actor)


def record_ineffective(tx: Tx, pipeline: PipelineContext, run: Run, step: PlannedStep, reason: str) -> None:
    """Remember that the alert of a run that succeeded with this step kept firing or returned."""
    key = remedy_key(step, _causes_of_step(tx, run, step))
    about = Subject(MemoryKind.REMEDY, key, step.call.text)
    remedy_memory.remember(tx, pipeline.ids, run, about, NO_HELP, reason, pipeline.actor)


def _causes_of_step(tx: RunTransaction | Tx, run: Run, step: PlannedStep) -> tuple[str, ...]:
    """Return the causes that were established when the step last began; a later diagnosis may find other causes."""
    begun = [item.intent_at for item in attempts.list_for_run(tx.connection, run.id) if item.step == step.id]
    seen = evidence.list_for_run(tx.connection, run.id)
    return evidence.established_causes([item for item in seen if not begun or item.at <= begun[-1]])


def _remember(tx: RunTransaction, about: Subject, verdict: str, reason: str) -> None:
    remedy_memory.remember(tx.tx, tx.pipeline.ids, tx.run, about, verdict, reason, tx.pipeline.actor)
