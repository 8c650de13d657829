"""The next step after the result of a step: for the stages that end a step (act) and that verify it (verify)."""

from __future__ import annotations

from remediator.core.plan import Plan, PlannedStep, goto_target
from remediator.core.run import Reason, Run, Status
from remediator.core.run_detail import (
    EscalatedDetail,
    FailedDetail,
    RunningDetail,
    UnknownOutcomeDetail,
    VerifyingDetail,
)
from remediator.pipeline.context import StageResult, proceed
from remediator.pipeline.run_context import RunTransaction
from remediator.storage.repositories import evidence
from remediator.storage.repositories.attempts import Attempt


def to_verifying(tx: RunTransaction, step_id: str) -> Run:
    """Move the run to ``verifying``; settling begins now."""
    return tx.move(Status.VERIFYING, None, VerifyingDetail(step=step_id, since=tx.now))


def to_unknown(tx: RunTransaction, attempt: Attempt, why: str) -> Run:
    """Move the run to ``unknown_outcome``: the effect of an attempt must be observed."""
    detail = UnknownOutcomeDetail(attempt=attempt.id, step=attempt.step, why=why)
    return tx.move(Status.UNKNOWN_OUTCOME, Reason.OUTCOME_UNKNOWN, detail)


def escalate_diagnosis(tx: RunTransaction) -> Run:
    """Escalate the diagnosis: nothing was done, because the playbook has no steps or no step applies."""
    found = evidence.list_for_run(tx.connection, tx.run.id)
    newest = max((item.at for item in found if item.phase == "conclude"), default=None)
    causes = tuple(item.summary for item in found if item.phase == "conclude" and item.at == newest)
    text = f"likely cause: {'; '.join(causes)}" if causes else "the evidence points to no known cause"
    return tx.move(Status.ESCALATED, Reason.DIAGNOSED, EscalatedDetail(text=text, causes=causes))


def follow(tx: RunTransaction, plan: Plan, step: PlannedStep, arrow: str) -> StageResult:
    """Move the run to the stage or step that ``on_success`` or ``on_failure`` names.

    Raises:
        ValueError: the arrow is unknown.
    """
    if arrow == "verify":
        return proceed(to_verifying(tx, step.id))
    if arrow == "abort":
        return proceed(tx.move(Status.FAILED, Reason.STEP_FAILED, FailedDetail(step=step.id)))
    if arrow == "escalate":
        return proceed(tx.move(Status.ESCALATED, Reason.STEP_ESCALATES, EscalatedDetail(step=step.id)))
    if arrow == "next":
        following = plan.after(step.id)
        cursor = None if following is None else following.id
    else:
        cursor = goto_target(arrow)
    if tx.run.status is Status.VERIFYING:
        return proceed(tx.move(Status.RUNNING, Reason.NEXT_STEP, RunningDetail(cursor=cursor), cursor=cursor))
    return proceed(tx.save(cursor=cursor))
