"""The cost of a step: measured when it is planned, and again right before it acts (promise 12)."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from remediator.core.cost import EFFECT, Cost, excess
from remediator.core.plan import PlannedCall, PlannedStep
from remediator.errors import RemediatorError
from remediator.extensions.actions.base import Action
from remediator.pipeline.context import DEFECTS, PipelineContext
from remediator.pipeline.run_context import RunContext
from remediator.playbooks.inventory import Service
from remediator.storage.repositories.evidence import EvidenceRecord


async def measure(
    pipeline: PipelineContext, action: Action, service: Service, parameters: Any, call: PlannedCall
) -> Cost:
    """Return the cost of a call now. Whatever cannot be measured is unknown; nothing is raised."""
    if call.infeasible_reason:
        return Cost()
    limit = pipeline.timeouts.probe_timeout.total_seconds()
    try:
        async with asyncio.timeout(limit):
            found = await action.cost(service, parameters, call)
        return msgspec.convert(msgspec.to_builtins(found), Cost)  # a wrong type would make the stored plan unreadable
    except TimeoutError:
        why = f"no answer within {limit:g} s"
    except (RemediatorError, *DEFECTS) as error:  # a defect in a measurement: the cost is unknown
        why = f"{type(error).__name__}: {error}"
    return Cost(unknown=dict.fromkeys(action.measures or (EFFECT,), why))


async def measure_step(ctx: RunContext, step: PlannedStep, call: PlannedCall) -> Cost:
    """Return the cost of a step of a run now."""
    action = ctx.pipeline.actions[step.action]
    parameters = action.Parameters.model_validate(step.parameters)
    return await measure(ctx.pipeline, action, ctx.service, parameters, call)


def reason_to_ask(step: PlannedStep, cost: Cost, *, approved: bool) -> str | None:
    """Return why a person must decide about the cost of a step; None if the cost is tolerated or approved.

    An approval covers the shown cost, and a limited growth since. For other costs, people are asked again.

    Args:
        step: has the tolerance, and the cost that the plan showed.
        cost: the current measurement.
        approved: a person has approved the step as planned.
    """
    found = excess(cost, step.tolerance, step.cost if approved else None)
    return f"the cost is above the tolerance: {'; '.join(found)}" if found else None


def record(ctx: RunContext, step: PlannedStep, cost: Cost) -> EvidenceRecord:
    """Return the cost as evidence of the run, for people and for the audit log."""
    status = "unknown" if cost.unknown else "ok"
    facts = {**cost.known(), "unknown": dict(cost.unknown), "source": cost.source}
    return EvidenceRecord("cost", step.id, status, f"cost of {step.title}: {cost.text or 'nothing'}", facts, ctx.now())
