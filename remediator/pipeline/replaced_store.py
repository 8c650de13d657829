"""After the database replaced another database, earlier actions may be missing in it (promise 3).

A run that was planned before the replacement observes its target first, as if the intent had been committed. A later
plan describes the later state of the target, so it cannot show earlier actions. This applies to a run that the database
has in an earlier status. It also applies to a run that was created again because the database lost the first run. In
these cases, a person decides about a step that must not be repeated blindly.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from remediator.core.plan import PlannedStep
from remediator.pipeline.context import StageResult, proceed, wait_until
from remediator.pipeline.run_context import RunContext, RunTransaction
from remediator.pipeline.step_execution import StepExecution
from remediator.pipeline.transitions import to_unknown
from remediator.storage import Replacement
from remediator.storage.repositories import evidence, target_locks
from remediator.storage.repositories.attempts import Attempt

_CLOCK_TOLERANCE = timedelta(seconds=30)
"""How much the clocks of two database servers, or of a Prometheus, may differ."""
_WHY = "the database was replaced after this run began: whether this step was already done is not recorded"


async def reconcile(ctx: RunContext, step: PlannedStep, tried: Sequence[Attempt]) -> StageResult | None:
    """Observe the target before a step is done whose intent may be missing. None: no intent is missing.

    Calls from before the replacement may still be in progress. They end within their timeouts; the run waits for this
    end.
    """
    replaced = ctx.pipeline.store.replaced
    if replaced is None or any(item.step == step.id and item.intent_at >= replaced.at for item in tried):
        return None
    if not await _is_from_before(ctx, replaced):
        return None
    if not replaced.lossless:
        longest = timedelta(seconds=max(item.timeout for item in ctx.plan.steps))
        settled = replaced.at + longest + ctx.pipeline.timeouts.lease_margin
        if ctx.now() < settled:
            return wait_until(ctx.run, settled)
    if await _is_planned_after(ctx, replaced):
        return None  # the target cannot show the lost call: see :func:`lossy_replacement`
    return await ctx.write(lambda tx: _assume_intent(tx, StepExecution.of_step(ctx, step, step.call), list(tried)))


async def lossy_replacement(ctx: RunContext, step: PlannedStep) -> Replacement | None:
    """Return the replacement after which a person must decide. The step may have been done, and no record shows it.

    None without such a replacement.
    """
    replaced = ctx.pipeline.store.replaced
    if step.idempotent or replaced is None or replaced.lossless:
        return None
    affected = await _is_from_before(ctx, replaced) and await _is_planned_after(ctx, replaced)
    return replaced if affected else None


async def _is_from_before(ctx: RunContext, replaced: Replacement) -> bool:
    """Return whether the run, or the first run for its alerts, may have begun before the replacement."""
    until = replaced.at + _CLOCK_TOLERANCE
    return ctx.run.created_at <= until or any(alert.starts_at <= until for alert in await ctx.alerts())


async def _is_planned_after(ctx: RunContext, replaced: Replacement) -> bool:
    """Return whether the plan may have been made after the replacement: its guards were evaluated then."""
    if ctx.planned_here:
        return True
    verdicts = await ctx.read(evidence.list_verdicts)
    return max((item.at for item in verdicts if item.phase == "plan"), default=ctx.run.created_at) > replaced.at


def _assume_intent(tx: RunTransaction, execution: StepExecution, tried: list[Attempt]) -> StageResult | None:
    """Write an intent as if the call had been made, so that its effect is observed. None: another run has the lock."""
    if target_locks.lock_holder(tx.connection, tx.run.target, tx.run.id) is not None:
        return None  # the guards and check 15 block this run until the other run has ended
    intent = execution.write_intent(tx, tried, assumed=True)
    return proceed(to_unknown(tx, intent.attempt, _WHY))
