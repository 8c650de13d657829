"""The verify stage: settle, then require positive evidence from all checks at once (promise 7)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import msgspec

from remediator.audit import Kind
from remediator.core.clock import format_duration
from remediator.core.run import Reason, Run, Status
from remediator.core.run_detail import EscalatedDetail, SucceededDetail, VerifyingDetail
from remediator.errors import RemediatorError
from remediator.extensions.checks.base import CheckAnswer
from remediator.extensions.guards.base import GuardAnswer
from remediator.pipeline import check_runner, remedy_memory
from remediator.pipeline.context import StageResult, proceed, wait_until
from remediator.pipeline.guard_evaluation import GuardDecision, build_input, check_regression
from remediator.pipeline.planning import diagnose_again
from remediator.pipeline.run_context import RunContext, RunTransaction
from remediator.pipeline.transitions import follow
from remediator.pipeline.undo import UndoResult, undo_steps
from remediator.storage.repositories import evidence
from remediator.storage.repositories.evidence import EvidenceRecord

STABLE = "stable"
"""Name of the observation about restarts while the checks must stay positive."""


async def verify(ctx: RunContext) -> StageResult:
    """Take a ``verifying`` run to success, to the next step, or to an escalation.

    Only positive evidence is a success: that the alert resolved, or that an action returned *ok*, proves nothing.
    """
    detail, plan = ctx.run.detail, ctx.plan
    assert isinstance(detail, VerifyingDetail), f"run {ctx.run.id} is verified without the step to verify"
    # 1. Settle first: a check right after the step may still see the state before it (promise 7).
    settled = detail.since + timedelta(seconds=plan.settle)
    if ctx.now() < settled:
        return wait_until(ctx.run, settled)
    # 2. All checks must be positive at once; no checks prove nothing (promise 7).
    seen = await _observe(ctx)
    # 3. They stay positive for as long as the playbook wants, on instances that do not start again (promise 7).
    watching = await _watch(ctx, detail, seen, settled) if plan.stable and _all_ok(seen) else None
    if watching is not None:
        return watching
    if _all_ok(seen):
        # 4. Checks that had not failed before the first step prove nothing (promise 7).
        before = [item for item in await ctx.evidence() if item.phase == "before"]
        if before and all(item.status != CheckAnswer.FAIL.value for item in before):
            return proceed(await ctx.write(lambda tx: _escalate_not_proved(tx, detail, seen)))
        return proceed(await ctx.write(lambda tx: _succeed(tx, detail, seen)))
    if detail.ok_since is not None:
        relapsed = msgspec.structs.replace(detail, ok_since=None, lives={})
        await ctx.write(lambda tx: tx.save(detail=relapsed))
    # 5. A regression ends the run at once and undoes what it did (promise 12). The check comes after success: a target
    #    that is proved healthy is not undone.
    regression = None if detail.resolved else await _regression(ctx, detail)
    if regression is not None:
        undone = await undo_steps(ctx)
        return proceed(await ctx.write(lambda tx: _escalate_regression(tx, detail, seen, regression, undone)))
    # 6. Until the time for verification is over, the checks are repeated.
    if not _out_of_time(ctx, settled):
        return wait_until(ctx.run, ctx.now() + ctx.pipeline.timeouts.verify_interval)
    # 7. Not proved in time: the step has failed. The diagnosis is made again, because the step may have changed the
    #    cause or shown it. A run that is aborted first undoes what it can.
    await diagnose_again(ctx)
    if plan.step(detail.step).on_failure == "abort":
        await undo_steps(ctx)
    return await ctx.write(lambda tx: _fail(tx, ctx, detail, seen))


async def _observe(ctx: RunContext) -> list[EvidenceRecord]:
    """Run the checks in order, up to the first that is not positive: the rest cannot change the result."""
    seen: list[EvidenceRecord] = []
    for check in ctx.plan.checks:
        found = await check_runner.observe(ctx.pipeline, check.check, ctx.service, check.parameters)
        seen.append(EvidenceRecord("verify", check.check, found.answer.value, found.summary, found.facts, ctx.now()))
        if found.answer is not CheckAnswer.OK:
            break
    return seen


def _all_ok(seen: Sequence[EvidenceRecord]) -> bool:
    return bool(seen) and all(item.status == CheckAnswer.OK.value for item in seen)


def _out_of_time(ctx: RunContext, settled: datetime) -> bool:
    return ctx.now() >= settled + timedelta(seconds=ctx.plan.within)


async def _watch(
    ctx: RunContext, detail: VerifyingDetail, seen: list[EvidenceRecord], settled: datetime
) -> StageResult | None:
    """Wait until the target was healthy, without a restart, for as long as the playbook wants.

    A target that dies again was not healed, also if the platform restarts it between two observations. A restart starts
    the time again, until the time for verification is over.

    Returns:
        how to wait; None if the time is over, or if ``seen`` now has an observation that is not positive.
    """
    lives = await _lives(ctx, seen)
    if not _all_ok(seen):
        return None
    restarted = _restarted(detail.lives, lives) if detail.ok_since is not None else []
    if restarted and _out_of_time(ctx, settled):
        stable = format_duration(timedelta(seconds=ctx.plan.stable))
        text = f"{', '.join(restarted)} started again before {stable} without a restart were over"
        seen.append(EvidenceRecord("verify", STABLE, CheckAnswer.FAIL.value, text, {"restarted": restarted}, ctx.now()))
        return None
    since = ctx.now() if restarted or detail.ok_since is None else detail.ok_since
    if ctx.now() - since >= timedelta(seconds=ctx.plan.stable):
        return None
    if since != detail.ok_since or lives.keys() != detail.lives.keys():
        watched = msgspec.structs.replace(detail, ok_since=since, lives=lives)
        await ctx.write(lambda tx: tx.save(detail=watched))
    return wait_until(ctx.run, ctx.now() + ctx.pipeline.timeouts.verify_interval)


async def _lives(ctx: RunContext, seen: list[EvidenceRecord]) -> dict[str, str]:
    """Return the instances of the target, each with a value that changes when it starts again.

    If the platform does not answer, an *unknown* observation is added: it is then unknown whether the target is stable.
    """
    limit = ctx.pipeline.timeouts.probe_timeout.total_seconds()
    try:
        async with asyncio.timeout(limit):
            return dict((await ctx.pipeline.service_status(ctx.service)).lives)
    except (RemediatorError, OSError, TimeoutError) as error:
        text = f"restarts of {ctx.service.name} cannot be observed: {error or f'no answer within {limit:g} s'}"
        seen.append(EvidenceRecord("verify", STABLE, CheckAnswer.UNKNOWN.value, text, {}, ctx.now()))
        return {}


def _restarted(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Return the restarted instances; all instances if all were replaced.

    Added or removed instances alone are not a restart.
    """
    common = before.keys() & now.keys()
    if before and now and not common:
        return sorted(now)
    return sorted(name for name in common if before[name] != now[name])


async def _regression(ctx: RunContext, detail: VerifyingDetail) -> GuardDecision | None:
    """Return the worse signal that a guard finds after the step; None if no signal is worse."""
    before = await ctx.read(evidence.list_verdicts)
    asked = build_input(ctx, await ctx.alerts(), ctx.plan.step(detail.step))
    decision = await check_regression(ctx.pipeline, asked, before)
    return decision if decision.final.answer is GuardAnswer.BLOCK else None


def _escalate_regression(
    tx: RunTransaction,
    detail: VerifyingDetail,
    seen: Sequence[EvidenceRecord],
    regression: GuardDecision,
    undone: Sequence[UndoResult],
) -> Run:
    tx.add_evidence(seen)
    tx.audit(Kind.VERIFICATION, {"healed": False, "missing": [regression.final.text]})
    assert tx.run.plan is not None, f"run {tx.run.id} is verified without a plan"
    remedy_memory.record_no_help(tx, tx.run.plan.step(detail.step), regression.final.text)
    results = tuple(result.to_data() for result in undone)
    escalated = EscalatedDetail(**regression.detail_fields(), step=detail.step, undone=results)
    return tx.move(Status.ESCALATED, Reason.REGRESSION, escalated)


def _escalate_not_proved(tx: RunTransaction, detail: VerifyingDetail, seen: Sequence[EvidenceRecord]) -> Run:
    tx.add_evidence(seen)
    text = "all checks are ok, but no check had failed before the first step, so they do not prove that the step helped"
    tx.audit(Kind.VERIFICATION, {"step": detail.step, "healed": False, "missing": [text]})
    return tx.move(Status.ESCALATED, Reason.NOT_PROVED, EscalatedDetail(step=detail.step, text=text))


def _succeed(tx: RunTransaction, detail: VerifyingDetail, seen: Sequence[EvidenceRecord]) -> Run:
    tx.add_evidence(seen)
    proof = tuple(item.summary for item in seen)
    tx.audit(Kind.VERIFICATION, {"step": detail.step, "proof": list(proof), "healed": True})
    assert tx.run.plan is not None, f"run {tx.run.id} is verified without a plan"
    remedy_memory.record_healed(tx, tx.run.plan.step(detail.step))
    return tx.move(Status.SUCCEEDED, Reason.VERIFIED, SucceededDetail(step=detail.step, proof=proof))


def _fail(tx: RunTransaction, ctx: RunContext, detail: VerifyingDetail, seen: Sequence[EvidenceRecord]) -> StageResult:
    tx.add_evidence(seen)
    missing = [f"{item.name}: {item.summary}" for item in seen if item.status != CheckAnswer.OK.value]
    data = {"step": detail.step, "healed": False, "missing": missing or ["the playbook has no checks"]}
    tx.audit(Kind.VERIFICATION, data)
    step = ctx.plan.step(detail.step)
    if missing:
        remedy_memory.record_no_help(tx, step, "; ".join(missing))
    return follow(tx, ctx.plan, step, step.on_failure)
