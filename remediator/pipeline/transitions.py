"""Where a step's arrows lead: shared by the verbs that end a step (act) and that judge it (verify)."""

from __future__ import annotations

from remediator.core.plan import Plan, PlannedStep
from remediator.core.run import Run, Status
from remediator.pipeline.context import PipelineContext, StageResult, proceed
from remediator.storage import Tx
from remediator.storage.repositories import runs


def to_verifying(tx: Tx, context: PipelineContext, run: Run, step_id: str) -> Run:
    """Look whether it helped, from now on."""
    detail = {"step": step_id, "since": tx.now.isoformat()}
    return runs.transition(tx, run, Status.VERIFYING, None, detail, context.actor)


def follow(tx: Tx, context: PipelineContext, run: Run, plan: Plan, step: PlannedStep, arrow: str) -> StageResult:
    """Go where a step's ``on_success`` or ``on_failure`` points."""
    if arrow == "verify":
        return proceed(to_verifying(tx, context, run, step.id))
    if arrow == "abort":
        return proceed(runs.transition(tx, run, Status.FAILED, "step_failed", {"step": step.id}, context.actor))
    if arrow == "escalate":
        return proceed(runs.transition(tx, run, Status.ESCALATED, "step_escalates", {"step": step.id}, context.actor))
    if arrow == "next":
        following = plan.after(step.id)
        cursor = None if following is None else following.id
    else:
        cursor = arrow.removeprefix("goto ")
    if run.status is Status.VERIFYING:
        return proceed(
            runs.transition(tx, run, Status.RUNNING, "next_step", {"cursor": cursor}, context.actor, cursor=cursor)
        )
    return proceed(runs.save(tx, run, cursor=cursor))
