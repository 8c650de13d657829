"""The verb *plan*: resolve target and steps to exact calls, and collect evidence before anything is touched."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import structlog

from remediator.audit import Kind
from remediator.core import plan
from remediator.core.plan import Plan, PlannedCall, PlannedCheck, PlannedStep
from remediator.core.run import Episode, Run, Status
from remediator.core.types import fitted
from remediator.errors import Refused, RemediatorError, TargetError, TimedOut
from remediator.extensions.actions.base import Action
from remediator.extensions.checks.base import CheckAnswer, Evidence
from remediator.pipeline import condition_scope
from remediator.pipeline.check_runner import observe
from remediator.pipeline.context import PipelineContext, StageResult, proceed
from remediator.playbooks import cel, parameters
from remediator.playbooks.inventory import Service
from remediator.playbooks.model import CheckCall, Playbook, Step
from remediator.storage.repositories import episodes, evidence, runs
from remediator.storage.repositories.evidence import EvidenceRecord

log: Any = structlog.get_logger("remediator.pipeline.planning")

MISTAKES = (ArithmeticError, AttributeError, LookupError, OSError, TypeError, ValueError)
"""What a mistake in an action or a check raises, ours or a plugin's."""


async def plan_run(context: PipelineContext, run: Run) -> StageResult:
    """From ``matched`` to ``planned``; to ``escalated`` if it cannot be resolved: never to "all", never to a guess."""
    try:
        playbook = context.playbooks.of(run)
        alerts = await context.store.read(lambda connection: episodes.list_for_run(connection, run.id))
        values = parameters.resolve(
            playbook, _labels(alerts), context.playbooks.inventory
        )  # may say why there is no target
        service = context.playbooks.service(run)
        seen = await diagnose(context, playbook, service, values)
        seen += conclude(context, playbook, service, values, seen)
        made = await make_plan(context, playbook, service, values, run.mode)
    except RemediatorError as error:
        detail = {"message": str(error), "error": type(error).__name__}
        return await _give_up(context, run, detail)
    except MISTAKES as error:  # nothing was done yet, and trying again would only keep it from people
        log.exception("a defect: no plan could be made", run=run.id, playbook=run.playbook)
        detail = {"message": f"a defect: {type(error).__name__}: {error}", "error": type(error).__name__}
        return await _give_up(context, run, detail)
    return proceed(await context.store.write(lambda tx: _planned(tx, context, run, made, seen)))


def _labels(alerts: Sequence[Episode]) -> dict[str, str]:
    return dict(alerts[0].labels) if alerts else {}


def _planned(tx: Any, context: PipelineContext, run: Run, made: Plan, seen: Sequence[EvidenceRecord]) -> Run:
    evidence.add(tx, run, seen, context.actor)
    data = plan.as_data(made)
    after = runs.transition(
        tx,
        run,
        Status.PLANNED,
        None,
        {"steps": [step.call.told for step in made.steps if step.mutates]},
        context.actor,
        plan=data,
        plan_hash=made.hash,
        cursor=made.steps[0].id if made.steps else None,
    )
    tx.append_audit(runs.draft(Kind.RUN_PLANNED, after, context.actor, {"plan": data}))
    return after


async def _give_up(context: PipelineContext, run: Run, detail: dict[str, Any]) -> StageResult:
    after = await context.store.write(
        lambda tx: runs.transition(tx, run, Status.ESCALATED, "no_plan", detail, context.actor)
    )
    return proceed(after)


async def make_plan(context: PipelineContext, playbook: Playbook, service: Service, values: Any, mode: str) -> Plan:
    """The plan for these parameters on this target, with every call resolved against the platform as it is now.

    Raises:
        TargetError: no step can be done: a target is missing or ambiguous, or there is nothing to do.
        ClientError: a platform cannot be asked.
        InputError: a parameter does not fit its action.
    """
    steps = [await _step(context, playbook, service, step, values) for step in playbook.steps]
    hopeless = [step.call.impossible for step in steps if step.mutates]
    if hopeless and all(hopeless):
        raise TargetError("; ".join(dict.fromkeys(filter(None, hopeless))))
    return Plan(
        playbook=playbook.name,
        playbook_hash=playbook.content_hash,
        target=service.name,
        mode=mode,
        parameters=dict(values),
        steps=tuple(steps),
        checks=tuple(_check(context, call, values) for call in playbook.verify.checks),
        settle=playbook.verify.settle.total_seconds(),
        within=playbook.verify.within.total_seconds(),
        escalate_to=tuple(playbook.escalate.to),
        escalate_message=playbook.escalate.message,
        approval_groups=tuple(playbook.approval.groups),
        quorum=playbook.approval.quorum,
        approval_expires=playbook.approval.expires.total_seconds(),
        must_ask=playbook.approval.required,
    )


def _check(context: PipelineContext, call: CheckCall, values: Any) -> PlannedCheck:
    given = parameters.substitute_all(call.with_, values, promql=call.check == "promql")
    fitted(context.checks[call.check].Parameters, given, f"check {call.check}")
    return PlannedCheck(call.check, given)


async def _step(context: PipelineContext, playbook: Playbook, service: Service, step: Step, values: Any) -> PlannedStep:
    action = context.actions[step.action]
    given = parameters.substitute_all(step.with_, values)
    model = fitted(action.Parameters, given, f"step {step.id}: {step.action}")
    undo = _undo(context, step, values)
    call = await resolve(context, action, service, model)
    return PlannedStep(
        id=step.id,
        title=step.name or step.action,
        action=step.action,
        parameters=given,
        call=call,
        mutates=action.mutates,
        idempotent=action.idempotent,
        destructive=action.destructive,
        timeout=(step.timeout or action.timeout).total_seconds(),
        attempts=step.retry.attempts,
        backoff=step.retry.backoff.total_seconds(),
        when=step.when,
        on_success=_arrow(step.on_success) or ("verify" if action.mutates else "next"),
        on_failure=_arrow(step.on_failure) or "next",
        approval=step.approval == "required" or action.requires_approval,
        undo=undo,
    )


async def resolve(context: PipelineContext, action: Action, service: Service, model: Any) -> PlannedCall:
    """The exact calls of an action; where it cannot be done as things are, a planned call that says why.

    Raises:
        ClientError: it cannot be told whether it can be done.
    """
    try:
        async with asyncio.timeout(context.pace.probe.total_seconds()):
            return await action.plan(service, model)
    except TimeoutError:
        within = context.pace.probe.total_seconds()
        raise TimedOut(f"{action.name}: {service.name} gave no answer within {within:g} s") from None
    except (TargetError, Refused, OSError) as error:
        return PlannedCall(text=f"{action.name} is not possible now", impossible=str(error))


def _arrow(arrow: Any) -> str | None:
    if arrow is None or isinstance(arrow, str):
        return arrow
    return f"goto {arrow.goto}"


def _undo(context: PipelineContext, step: Step, values: Any) -> dict[str, Any] | None:
    if step.undo is None:
        return None
    after, given = step.undo.after, parameters.substitute_all(step.undo.with_, values)
    if step.undo.action is not None:  # known before anything is done: afterwards it would be too late
        fitted(context.actions[step.undo.action].Parameters, given, f"step {step.id}: undo: {step.undo.action}")
    return {
        "action": step.undo.action,
        "with": given,
        "after": None if after is None else after.total_seconds(),
    }


async def diagnose(context: PipelineContext, playbook: Playbook, service: Service, values: Any) -> list[EvidenceRecord]:
    """Collect evidence before anything is touched; what cannot be seen is recorded as such and blocks nothing."""
    seen = []
    for look in playbook.diagnose:
        about = service if look.service is None else context.playbooks.inventory.service(look.service)
        given = parameters.substitute_all(look.with_, values, promql=look.check == "promql")
        if look.check is not None:
            found = await observe(context, look.check, about, given)
        else:
            found = await _read_action(context, look.action, about, given)
        seen.append(
            EvidenceRecord("diagnose", look.id, found.answer.value, found.summary, found.facts, context.clock.now())
        )
    return seen


def conclude(
    context: PipelineContext, playbook: Playbook, service: Service, values: Any, seen: Sequence[EvidenceRecord]
) -> list[EvidenceRecord]:
    """The likely causes that the evidence points to; what cannot be told points to nothing."""
    known = condition_scope.variables(values, (service.name, service.platform.kind), seen)
    found = []
    for number, item in enumerate(playbook.conclude, start=1):
        if cel.compile(item.when).evaluate(known) is True:
            facts = {"when": item.when}
            found.append(EvidenceRecord("conclude", f"cause-{number}", "ok", item.cause, facts, context.clock.now()))
    return found


async def _read_action(context: PipelineContext, name: str | None, service: Service, given: Any) -> Evidence:
    assert name is not None, "a look is a check or an action"
    action = context.actions[name]
    try:
        model = fitted(action.Parameters, given, name)
        async with asyncio.timeout(context.pace.probe.total_seconds()):
            result = await action.execute(service, model, PlannedCall(text=name))
    except TimeoutError:
        return Evidence(CheckAnswer.UNKNOWN, f"{name} gave no answer within {context.pace.probe.total_seconds():g} s")
    except (RemediatorError, OSError) as error:
        return Evidence(CheckAnswer.UNKNOWN, f"{name} could not look: {error}")
    answer = CheckAnswer.OK if result.outcome == "ok" else CheckAnswer.FAIL
    return Evidence(answer, result.summary, result.output)
