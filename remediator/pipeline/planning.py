"""The plan stage: resolve target and steps to exact calls, and collect evidence before anything is changed."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import structlog

from remediator.audit import Kind
from remediator.core.alert import YEAR_ONE
from remediator.core.outcome import Outcome
from remediator.core.plan import Plan, PlannedCall, PlannedCheck, PlannedStep, PlannedUndo
from remediator.core.run import Episode, EpisodeKind, Reason, Run, Status
from remediator.core.run_detail import EscalatedDetail, PlannedDetail
from remediator.core.types import fitted
from remediator.errors import Refused, RemediatorError, TargetError, TimedOut
from remediator.extensions.actions.base import ALERT_SOURCES, INCIDENT_START, Action
from remediator.extensions.checks.base import CheckAnswer, Evidence
from remediator.pipeline import check_runner, condition_scope, costs, remedy_memory
from remediator.pipeline.context import DEFECTS, PipelineContext, StageResult, proceed
from remediator.pipeline.manual_start import parameter_labels
from remediator.pipeline.run_changes import RunChanges
from remediator.pipeline.run_context import RunContext, RunTransaction
from remediator.playbooks import cel, parameters, references
from remediator.playbooks.inventory import Service
from remediator.playbooks.model import Playbook
from remediator.playbooks.steps import Goto, Step
from remediator.playbooks.target_identity import Relation, compare
from remediator.playbooks.tolerance import resolve_tolerance
from remediator.storage.repositories import outbox
from remediator.storage.repositories.evidence import EvidenceRecord

log: Any = structlog.get_logger("remediator.pipeline.planning")


async def plan_run(ctx: RunContext) -> StageResult:
    """Take a ``matched`` run to ``planned``, or escalate it if it cannot be resolved.

    A missing target or parameter is never replaced by "all" or by a guess (promise 8).
    """
    seen: list[EvidenceRecord] = []
    try:
        alerts = await ctx.alerts()
        values = parameters.resolve(ctx.playbook, parameter_labels(alerts), ctx.pipeline.playbooks.inventory)
        INCIDENT_START.set(_began(alerts))
        ALERT_SOURCES.set(frozenset(alert.source for alert in alerts))
        planner = Planner(ctx.pipeline, ctx.playbook, ctx.service, values)
        # 1. Evidence first: it needs no plan, and people get it also when no plan can be made.
        seen += await planner.diagnose()
        seen += planner.conclude(seen)
        # 2. Never act on an alert about another target, or on an alert that names no target (promise 8).
        if (other := _not_about_target(ctx, alerts)) is not None:
            return await _escalate(ctx, *other, seen)
        plan = await remedy_memory.annotate(ctx, await planner.plan(ctx.run.mode, seen), seen)
    except RemediatorError as error:
        return await _escalate(ctx, Reason.NO_PLAN, str(error), seen, error)
    except DEFECTS as error:  # nothing was changed yet, and trying again would only delay the escalation
        log.exception("internal error while planning", run=ctx.run.id, playbook=ctx.run.playbook)
        message = f"internal error: {type(error).__name__}: {error}"
        return await _escalate(ctx, Reason.NO_PLAN, message, seen, error)

    def planned(changes: RunChanges) -> None:
        changes.add_evidence(seen)
        run = changes.move(
            Status.PLANNED,
            None,
            PlannedDetail(steps=tuple(step.summary for step in plan.steps if step.mutates)),
            plan=plan,
            plan_hash=plan.hash,
            cursor=plan.steps[0].id if plan.steps else None,
        )
        changes.audit(Kind.RUN_PLANNED, {"plan": plan.to_data()})
        # this run may have a better cause than an earlier run
        changes.following.append(lambda tx: outbox.enqueue_incident_update(tx, run, "planned"))

    ctx.change(planned)
    return proceed(ctx.run)


def _began(alerts: Sequence[Episode]) -> datetime | None:
    """Return when the alerts of a run began, according to their senders, or when they were received."""
    return min((alert.started_at if alert.starts_at == YEAR_ONE else alert.starts_at for alert in alerts), default=None)


_NOT_ABOUT = {Relation.OTHER: Reason.NOT_ABOUT_TARGET, Relation.UNKNOWN: Reason.NO_IDENTIFYING_LABEL}


def _not_about_target(ctx: RunContext, alerts: Sequence[Episode]) -> tuple[Reason, str] | None:
    """Return the reason and both sides if an alert names something else than the target, or nothing; else None."""
    if ctx.playbook.about_any is not None:
        return None
    compared = (compare(alert.labels, ctx.service) for alert in alerts if alert.kind is EpisodeKind.ALERT)
    return next(((_NOT_ABOUT[item.relation], item.text) for item in compared if item.relation in _NOT_ABOUT), None)


async def _escalate(
    ctx: RunContext, reason: Reason, message: str, seen: Sequence[EvidenceRecord], error: Exception | None = None
) -> StageResult:
    detail = EscalatedDetail(message=message, error="" if error is None else type(error).__name__)

    def escalate(tx: RunTransaction) -> Run:
        tx.add_evidence(seen)
        return tx.move(Status.ESCALATED, reason, detail)

    return proceed(await ctx.write(escalate))


async def diagnose_again(ctx: RunContext) -> None:
    """Collect the evidence of the playbook again after a step that did not help.

    The old evidence is from before the step. Only new evidence shows the effect of the step and the reason of its
    failure, for example in the log of a failed start.
    """
    INCIDENT_START.set(_began(await ctx.alerts()))
    planner = Planner(ctx.pipeline, ctx.playbook, ctx.service, ctx.plan.parameters)
    seen = await planner.diagnose()
    seen += planner.conclude(seen)
    await ctx.write(lambda tx: tx.add_evidence(seen))


@dataclass(frozen=True, slots=True)
class Planner:
    """Diagnoses and plans one playbook on one target. Changes nothing."""

    pipeline: PipelineContext
    playbook: Playbook
    service: Service
    values: Mapping[str, Any]
    """The playbook's parameters, resolved."""

    async def plan(self, mode: str, seen: Sequence[EvidenceRecord] = ()) -> Plan:
        """Return the plan, with every call resolved against the current state of the platform.

        Args:
            mode: the autonomy mode.
            seen: the diagnosis. A step that the diagnosis excludes may be infeasible, because it is not needed.

        Raises:
            TargetError: no step is feasible: a target is missing or ambiguous, or there is nothing to do.
            ClientError: a platform cannot be asked.
            InputError: a parameter does not fit its action.
        """
        playbook = self.playbook
        steps = [await self._step(step) for step in playbook.steps]
        target = (self.service.name, self.service.platform.kind)
        infeasible = [
            step.call.infeasible_reason
            for step in steps
            if step.mutates and condition_scope.may_apply(step, self.values, target, seen)
        ]
        if infeasible and all(infeasible):
            raise TargetError("; ".join(dict.fromkeys(filter(None, infeasible))))
        return Plan(
            playbook=playbook.name,
            playbook_hash=playbook.content_hash,
            target=self.service.name,
            mode=mode,
            parameters=dict(self.values),
            steps=tuple(steps),
            checks=tuple(self._check(call.check, call.with_) for call in playbook.verify.checks),
            settle=playbook.verify.settle.total_seconds(),
            within=playbook.verify.within.total_seconds(),
            stable=playbook.verify.stable.total_seconds(),
            escalate_to=tuple(playbook.escalate.to),
            escalate_message=parameters.fill_message(playbook.escalate.message, self.values),
            approval_groups=tuple(playbook.approval.groups),
            quorum=playbook.approval.quorum,
            approval_expires=playbook.approval.expires.total_seconds(),
            approval_required=playbook.approval.required,
        )

    def _check(self, name: str, given: Mapping[str, Any]) -> PlannedCheck:
        values = references.substitute_all(given, self.values, promql=name == "promql")
        fitted(self.pipeline.checks[name].Parameters, values, f"check {name}")
        return PlannedCheck(name, values)

    async def _step(self, step: Step) -> PlannedStep:
        action = self.pipeline.actions[step.action]
        given = references.substitute_all(step.with_, self.values)
        model = fitted(action.Parameters, given, f"step {step.id}: {step.action}")
        undo = self._undo(step)
        traits = action.traits_for(model)
        call = await resolve(self.pipeline, action, self.service, model)
        return PlannedStep(
            id=step.id,
            title=step.name or step.action,
            action=step.action,
            parameters=given,
            call=call,
            mutates=traits.mutates,
            idempotent=traits.idempotent,
            destructive=traits.destructive,
            timeout=(step.timeout or traits.timeout).total_seconds(),
            attempts=step.retry.attempts,
            backoff=step.retry.backoff.total_seconds(),
            when=step.when,
            on_success=_arrow(step.success_arrow(traits)),
            on_failure=_arrow(step.failure_arrow),
            approval=step.needs_approval(traits),
            undo=undo,
            interrupts=traits.interrupts or traits.destructive,
            causes=step.for_,
            tolerance=resolve_tolerance(self.service.tolerance, step.tolerance),
            cost=await costs.measure(self.pipeline, action, self.service, model, call),
        )

    def _undo(self, step: Step) -> PlannedUndo | None:
        if step.undo is None:
            return None
        given = references.substitute_all(step.undo.with_, self.values)
        if step.undo.action is not None:  # check this before anything is done: afterwards it would be too late
            model = self.pipeline.actions[step.undo.action].Parameters
            fitted(model, given, f"step {step.id}: undo: {step.undo.action}")
        after = step.undo.after
        return PlannedUndo(step.undo.action, given, None if after is None else after.total_seconds())

    async def diagnose(self) -> list[EvidenceRecord]:
        """Return the evidence of the playbook's ``diagnose``. What cannot be seen is *unknown* and blocks nothing."""
        records = []
        for item in self.playbook.diagnose:
            service = self.service if item.service is None else self.pipeline.playbooks.inventory.service(item.service)
            given = references.substitute_all(item.with_, self.values, promql=item.check == "promql")
            if item.check is not None:
                found = await check_runner.observe(self.pipeline, item.check, service, given)
            else:
                assert item.action is not None, "a diagnosis is a check or an action"
                found = await self._read(item.action, service, given)
            now = self.pipeline.clock.now()
            records.append(EvidenceRecord("diagnose", item.id, found.answer.value, found.summary, found.facts, now))
        return records

    async def _read(self, name: str, service: Service, given: Mapping[str, Any]) -> Evidence:
        action = self.pipeline.actions[name]
        limit = (self.pipeline.timeouts.probe_timeout + action.observes).total_seconds()
        try:
            model = fitted(action.Parameters, given, name)
            if action.traits_for(model).mutates:  # lint may not have known the settings; a diagnosis changes nothing
                return Evidence(CheckAnswer.UNKNOWN, f"action {name} is not read-only, so it was not run")
            await remedy_memory.load_releases(self.pipeline, action, service)
            async with asyncio.timeout(limit):
                result = await action.execute(service, model, PlannedCall(text=name))
        except TimeoutError:
            return Evidence(CheckAnswer.UNKNOWN, f"action {name} gave no answer within {limit:g} s")
        except (RemediatorError, OSError) as error:
            return Evidence(CheckAnswer.UNKNOWN, f"action {name} failed: {error}")
        answer = CheckAnswer.OK if result.outcome is Outcome.OK else CheckAnswer.FAIL
        return Evidence(answer, result.summary, result.output)

    def conclude(self, seen: Sequence[EvidenceRecord]) -> list[EvidenceRecord]:
        """Return the likely causes that the evidence points to. An unknown condition points to nothing."""
        target = (self.service.name, self.service.platform.kind)
        known = condition_scope.variables(self.values, target, seen)
        now = self.pipeline.clock.now()
        found = []
        for number, item in enumerate(self.playbook.conclude, start=1):
            if cel.compile(item.when).evaluate(known) is True:
                facts = {"when": item.when, "typed": item.id is not None}
                found.append(EvidenceRecord("conclude", item.id or f"hint-{number}", "ok", item.cause, facts, now))
        return found


async def resolve(pipeline: PipelineContext, action: Action, service: Service, model: Any) -> PlannedCall:
    """Return the exact calls of an action; a call with an infeasible reason where it cannot be done now.

    Raises:
        ClientError: whether it is feasible is unknown.
    """
    limit = (pipeline.timeouts.probe_timeout + action.planning).total_seconds()
    await remedy_memory.load_releases(pipeline, action, service)
    try:
        async with asyncio.timeout(limit):
            return await action.plan(service, model)
    except TimeoutError:
        raise TimedOut(f"action {action.name} on {service.name!r}: no answer within {limit:g} s") from None
    except (TargetError, Refused, OSError) as error:
        return PlannedCall(text=f"action {action.name} is not feasible now", infeasible_reason=str(error))


def _arrow(arrow: str | Goto) -> str:
    return f"goto {arrow.goto}" if isinstance(arrow, Goto) else arrow
