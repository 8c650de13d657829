"""The verb *verify*: settle, then positive evidence, all of it at once; else the next rung."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from remediator.audit import Kind
from remediator.core.plan import Plan, from_data
from remediator.core.run import Run, Status
from remediator.extensions.checks.base import CheckAnswer
from remediator.extensions.guards.base import GuardAnswer as GuardAnswer
from remediator.pipeline.check_runner import observe
from remediator.pipeline.context import PipelineContext, StageResult, proceed, wait_until
from remediator.pipeline.guard_evaluation import GuardDecision, build_input, check_regression
from remediator.pipeline.transitions import follow
from remediator.pipeline.undo import undo_steps
from remediator.storage import Tx
from remediator.storage.repositories import episodes, evidence, runs
from remediator.storage.repositories.evidence import EvidenceRecord


async def verify(context: PipelineContext, run: Run) -> StageResult:
    """From ``verifying``: success on positive evidence only; that the alert went away proves nothing by itself."""
    assert run.plan is not None, "a run is verified against its plan"
    plan = from_data(run.plan)
    since = datetime.fromisoformat(run.detail["since"])
    settled = since + timedelta(seconds=plan.settle)
    if context.clock.now() < settled:
        return wait_until(run, settled)
    seen = await _look(context, run, plan)
    if seen and all(item.status == CheckAnswer.OK.value for item in seen):
        return proceed(await context.store.write(lambda tx: _succeed(tx, context, run, seen)))
    harm = await _harm(context, run, plan)
    if harm is not None:
        undone = await undo_steps(context, run, plan)
        return proceed(await context.store.write(lambda tx: _worse(tx, context, run, seen, harm, undone)))
    if context.clock.now() < settled + timedelta(seconds=plan.within):
        return wait_until(run, context.clock.now() + context.pace.look)
    if plan.step(run.detail["step"]).on_failure == "abort":
        await undo_steps(context, run, plan)
    return await context.store.write(lambda tx: _fail(tx, context, run, plan, seen))


async def _look(context: PipelineContext, run: Run, plan: Plan) -> list[EvidenceRecord]:
    service = context.playbooks.service(run)
    seen = []
    for check in plan.checks:
        found = await observe(context, check.check, service, check.parameters)
        seen.append(
            EvidenceRecord("verify", check.check, found.answer.value, found.summary, found.facts, context.clock.now())
        )
        if found.answer is not CheckAnswer.OK:
            break  # all must hold at once: the rest cannot change that
    return seen


async def _harm(context: PipelineContext, run: Run, plan: Plan) -> GuardDecision | None:
    """What a guard sees that is worse than before the step; None if nothing, or if there was no step."""
    if run.detail.get("resolved"):
        return None
    alerts, before = await context.store.read(
        lambda connection: (
            episodes.list_for_run(connection, run.id),
            evidence.list_verdicts(connection, run.id),
        )
    )
    step = plan.step(run.detail["step"])
    asked = build_input(context, run, context.playbooks.of(run), context.playbooks.service(run), alerts, step)
    judgement = await check_regression(context, asked, before)
    return judgement if judgement.final.answer is GuardAnswer.BLOCK else None


def _worse(
    tx: Tx,
    context: PipelineContext,
    run: Run,
    seen: Sequence[EvidenceRecord],
    harm: GuardDecision,
    undone: Sequence[Mapping[str, Any]],
) -> Run:
    """Stop here: no further step; what is declared reversible is put back, and people are told."""
    evidence.add(tx, run, seen, context.actor)
    tx.append_audit(runs.draft(Kind.VERIFICATION, run, context.actor, {"healed": False, "missing": [harm.final.text]}))
    detail = {**harm.detail(), "step": run.detail["step"], "undone": list(undone)}
    return runs.transition(tx, run, Status.ESCALATED, "regression", detail, context.actor)


def _succeed(tx: Tx, context: PipelineContext, run: Run, seen: Sequence[EvidenceRecord]) -> Run:
    evidence.add(tx, run, seen, context.actor)
    proof = [item.summary for item in seen]
    detail = {"step": run.detail["step"], "proof": proof}
    tx.append_audit(runs.draft(Kind.VERIFICATION, run, context.actor, {**detail, "healed": True}))
    return runs.transition(tx, run, Status.SUCCEEDED, "verified", detail, context.actor)


def _fail(tx: Tx, context: PipelineContext, run: Run, plan: Plan, seen: Sequence[EvidenceRecord]) -> StageResult:
    evidence.add(tx, run, seen, context.actor)
    missing = [f"{item.name}: {item.summary}" for item in seen if item.status != CheckAnswer.OK.value]
    data = {"step": run.detail["step"], "healed": False, "missing": missing or ["the playbook has no checks"]}
    tx.append_audit(runs.draft(Kind.VERIFICATION, run, context.actor, data))
    step = plan.step(run.detail["step"])
    return follow(tx, context, run, plan, step, step.on_failure)
