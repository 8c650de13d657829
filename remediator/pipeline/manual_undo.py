"""Undo a finished run because a person asks for it: what its playbook or its actions declare, last step first.

The request is stored as timers that are due at once. The loop of scheduled undos claims the run, evaluates the guards
that apply to an undo, and follows the write-ahead protocol (:mod:`remediator.pipeline.undo`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from remediator.audit import Kind
from remediator.core.approval import DenialReason, Permission, PermissionDenied, Person, names_target
from remediator.core.ids import Ids
from remediator.core.outcome import Outcome
from remediator.core.plan import PlannedStep
from remediator.core.run import TERMINAL, Run
from remediator.errors import Conflict, NotFound
from remediator.storage import Tx
from remediator.storage.repositories import attempts, runs, timers
from remediator.storage.repositories.attempts import Attempt
from remediator.storage.repositories.timers import UndoRequest


@dataclass(frozen=True, slots=True)
class UndoableStep:
    """A step that took effect and can be undone now."""

    step: PlannedStep
    how: str
    """How it is undone, as text."""


def undoable_steps(run: Run, tried: list[Attempt]) -> list[UndoableStep]:
    """Return the steps of a finished run that took effect and were not undone, last first.

    A step without a declared undo is omitted: its undo is not guessed.
    """
    if run.plan is None or run.status not in TERMINAL:
        return []
    made = {item.step for item in tried if item.mutates and not item.is_undo and item.outcome == Outcome.OK.value}
    settled = (Outcome.OK.value, Outcome.UNKNOWN.value, None)
    begun = {item.step for item in tried if item.is_undo and item.outcome in settled}
    steps = [step for step in run.plan.steps if step.id in made - begun]
    return [UndoableStep(step, how) for step in reversed(steps) if (how := _how(step))]


def _how(step: PlannedStep) -> str:
    if step.undo is not None and step.undo.action:
        return f"{step.undo.action}, as the playbook declares"
    return step.call.undo or (f"as action {step.action} declares" if step.undo is not None else "")


def request_undo(tx: Tx, person: Person, run_id: str, reason: str, confirmation: str = "") -> list[UndoableStep]:
    """Request that a finished run is undone; returns the steps, in the order in which they are undone.

    Args:
        tx: the transaction.
        person: who asks.
        run_id: the run.
        reason: why; recorded in the audit log.
        confirmation: the name of the target. With it, an undo that can lose data or costs more than the tolerance of
            its step is done too.

    Raises:
        PermissionDenied: the role is not sufficient, or the confirmation is wrong.
        NotFound: there is no such run.
        Conflict: it has not ended, was undone, is being undone, or declares no undo.
    """
    person.require(Permission.UNDO)
    run = runs.get(tx.connection, run_id, lock=True)
    if run is None:
        raise NotFound(f"there is no run {run_id[:64]!r}")
    if run.status not in TERMINAL:
        raise Conflict(f"run {run.id} is {run.status.value.replace('_', ' ')}: only a finished run can be undone")
    if confirmation and not names_target(confirmation, run.target):
        raise PermissionDenied(DenialReason.CONFIRMATION, f"type the target {run.target!r} to confirm, or nothing")
    tried = attempts.list_for_run(tx.connection, run.id)
    steps = undoable_steps(run, tried)
    if not steps:
        raise Conflict(f"run {run.id} cannot be undone: {_why_not(run, tried)}")
    if timers.list_requested_undos(tx.connection, run.id):
        raise Conflict(f"run {run.id} is being undone already")
    said = tx.redact(reason.strip())
    request = UndoRequest(person.id, bool(confirmation))
    for number, item in enumerate(steps):
        timers.request_undo(tx, Ids(), run, item.step.id, request, timedelta(microseconds=number))
    timers.complete_recurrence_check(tx, run.id)  # a person undoes the success, so failing checks are not a relapse
    data = {"command": "undo", "how": person.how, "status": run.status.value, "steps": [item.step.id for item in steps]}
    tx.append_audit(runs.draft(Kind.OPERATOR_COMMAND, run, person.id, data, said or None))
    return steps


def _why_not(run: Run, tried: list[Attempt]) -> str:
    undone = [item for item in tried if item.is_undo]
    if any(item.outcome in (None, Outcome.UNKNOWN.value) for item in undone):
        return f"the outcome of its undo is unknown; check {run.target}"
    if undone:
        return "it was undone before"
    made = [item for item in tried if item.mutates and item.outcome == Outcome.OK.value]
    return "no step of it declares how to undo it" if made else "no step of it took effect"
