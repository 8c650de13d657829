"""The verb *guard*: what the guards and the ladder say of a plan, and of a blocked run when its time has come."""

from __future__ import annotations

from datetime import datetime

from remediator.core.plan import Plan, from_data
from remediator.core.run import Run, Status
from remediator.extensions.guards.base import GuardAnswer, GuardInput
from remediator.pipeline.context import PipelineContext, StageResult, proceed, wait_until
from remediator.pipeline.guard_evaluation import GuardDecision, again_at, block, build_input, evaluate, to_records
from remediator.storage import Tx
from remediator.storage.repositories import approvals, blocked_runs, episodes, evidence, runs


async def guard_plan(context: PipelineContext, run: Run) -> StageResult:
    """From ``planned`` to what the guards and the ladder say; for a blocked run, the same question again."""
    if run.status is Status.BLOCKED and run.reason == "snoozed":
        until = datetime.fromisoformat(run.detail["until"])
        if context.clock.now() < until:
            return wait_until(run, until)
    if run.status is Status.PLANNED and not (run.plan or {}).get("steps") and run.mode not in ("observe", "shadow"):
        return proceed(await context.store.write(lambda tx: _diagnosed(tx, context, run)))
    playbook, service = context.playbooks.of(run), context.playbooks.service(run)
    alerts = await context.store.read(lambda connection: episodes.list_for_run(connection, run.id))
    asked = build_input(context, run, playbook, service, alerts, None)
    judgement = await evaluate(context, asked)
    if run.status is Status.BLOCKED:
        return await _judged_again(context, run, asked, judgement)
    return await context.store.write(lambda tx: _first_judged(tx, context, run, asked, judgement))


def _diagnosed(tx: Tx, context: PipelineContext, run: Run) -> Run:
    """Nothing is to be done, so nothing needs to be guarded: people get what was found."""
    causes = [item.summary for item in evidence.list_for_run(tx.connection, run.id) if item.phase == "conclude"]
    text = f"likely cause: {'; '.join(causes)}" if causes else "the evidence points to no known cause"
    detail = {"text": text, "causes": causes}
    return runs.transition(tx, run, Status.ESCALATED, "diagnosed", detail, context.actor)


def _first_judged(
    tx: Tx, context: PipelineContext, run: Run, asked: GuardInput, judgement: GuardDecision
) -> StageResult:
    evidence.add_verdicts(tx, run, to_records(asked, judgement), context.actor)
    final = judgement.final
    if final.answer is GuardAnswer.BLOCK:
        return block(tx, context, run, judgement, Status.MATCHED)
    assert run.plan is not None
    plan = from_data(run.plan)
    if run.mode in ("observe", "shadow"):
        detail = {"guard": "autonomy", "text": _would_have(run.mode, plan, judgement)}
        return wait_until(runs.transition(tx, run, Status.BLOCKED, run.mode, detail, context.actor), None)
    if final.answer is GuardAnswer.UNKNOWN or needs_person(run, plan):
        reason = f"unknown:{judgement.guard}" if final.answer is GuardAnswer.UNKNOWN else "approval_needed"
        detail = judgement.detail() if final.answer is GuardAnswer.UNKNOWN else {"mode": run.mode}
        after = approvals.request(tx, context.ids, run, plan, None, reason, detail, context.actor)
        return wait_until(after, after.wake_at)
    return proceed(_go(tx, context, run))


def _go(tx: Tx, context: PipelineContext, run: Run) -> Run:
    deadline = tx.now + context.pace.deadline
    return runs.transition(tx, run, Status.RUNNING, None, {}, context.actor, deadline_at=deadline)


def needs_person(run: Run, plan: Plan) -> bool:
    """Whether the ladder, the playbook or a step of the plan asks for a person before anything is done."""
    first = next((step for step in plan.steps if step.mutates), None)
    return run.mode == "approve" or plan.must_ask or (first is not None and first.approval and len(plan.steps) == 1)


def _would_have(mode: str, plan: Plan, judgement: GuardDecision) -> str:
    if mode == "observe":
        return "observing only: nothing is done in this mode"
    if judgement.final.answer is GuardAnswer.UNKNOWN:
        return f"shadow: would have asked a person, since {judgement.final.text}"
    calls = "; ".join(step.call.told for step in plan.steps if step.mutates)
    return f"shadow: would have done: {calls}"


async def _judged_again(context: PipelineContext, run: Run, asked: GuardInput, judgement: GuardDecision) -> StageResult:
    if run.reason in ("observe", "shadow"):
        return wait_until(run, None)
    final = judgement.final
    if final.answer is GuardAnswer.BLOCK:
        reason = f"{judgement.guard}:{final.reason}"
        until = again_at(context, final, asked.now, await context.store.read(blocked_runs.count))
        if reason == run.reason:
            return wait_until(run, until)  # nothing new to say: no entry every few seconds

        def other_reason(tx: Tx) -> Run:
            evidence.add_verdicts(tx, run, to_records(asked, judgement), context.actor)
            return runs.save(tx, run, reason=reason, detail=judgement.detail())

        return wait_until(await context.store.write(other_reason), until)

    def free(tx: Tx) -> Run:
        evidence.add_verdicts(tx, run, to_records(asked, judgement), context.actor)
        to = run.resume_to or Status.MATCHED
        deadline = run.deadline_at if run.first_action_at else tx.now + context.pace.deadline
        was = {"was": run.reason}
        return runs.transition(tx, run, to, "unblocked", was, context.actor, resume_to=None, deadline_at=deadline)

    return proceed(await context.store.write(free))
