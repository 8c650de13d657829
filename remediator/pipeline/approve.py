"""The verb *approve*: wait for people, and hold them to exactly the plan that they saw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from remediator.core.plan import Plan
from remediator.core.run import Run, Status
from remediator.errors import ClientError, RemediatorError
from remediator.pipeline.context import PipelineContext, StageResult, proceed, wait_until
from remediator.pipeline.planning import make_plan
from remediator.playbooks import parameters
from remediator.storage import Tx
from remediator.storage.repositories import approvals, episodes, runs
from remediator.storage.repositories.approvals import Approval, Decision


@dataclass(frozen=True, slots=True)
class Change:
    """Why a plan that people were shown is not what would be done now."""

    why: str
    plan: Plan | None = None
    """What would be done now, where that is known."""


async def await_approval(context: PipelineContext, run: Run) -> StageResult:
    """From ``awaiting_approval`` to what people said, or what became of the question."""
    approval, said = await context.store.read(lambda connection: _state(connection, run.id))
    assert approval is not None, "a run waits for an approval that was never asked for"
    if approval.status == "approved":
        return await _approved(context, run, approval, said)
    if approval.status == "rejected":
        who = [item.identity for item in said if item.verb == "reject"]
        detail = {"approval": approval.id, "by": who, "why": approval.reason}
        return await _move(context, run, Status.CANCELLED, "rejected", detail)
    if approval.status == "void":
        return await context.store.write(lambda tx: _withdrawn(tx, context, run, approval))
    if approval.status == "pending" and context.clock.now() < approval.expires_at:
        return wait_until(run, approval.expires_at)
    return await context.store.write(lambda tx: _expire(tx, context, run, approval))


def _state(connection: Connection, run_id: str) -> tuple[Approval | None, Sequence[Decision]]:
    approval = approvals.get_latest(connection, run_id)
    said = approvals.list_decisions(connection, approval.id) if approval else []
    return approval, said


def _expire(tx: Tx, context: PipelineContext, run: Run, approval: Approval) -> StageResult:
    if tx.now < approval.expires_at:
        return wait_until(run, approval.expires_at)  # the database's clock is behind ours: it decides
    approvals.close(tx, approval, "expired")
    detail = {"approval": approval.id, "expired_at": approval.expires_at.isoformat()}
    return proceed(runs.transition(tx, run, Status.ESCALATED, "approval_expired", detail, context.actor))


def _withdrawn(tx: Tx, context: PipelineContext, run: Run, approval: Approval) -> StageResult:
    """A person said "not now": the run sleeps, and comes back with a new plan and a new question."""
    until = approval.snoozed_until
    detail: dict[str, object] = {"approval": approval.id, "why": approval.reason}
    if until is None:
        return proceed(_afresh(tx, context, run, detail))
    detail |= {"until": until.isoformat(), "text": f"{approval.reason} until {until:%H:%M:%S}Z"}
    after = runs.transition(tx, run, Status.BLOCKED, "snoozed", detail, context.actor, resume_to=Status.MATCHED)
    return wait_until(after, until)


def void_outdated_requests(tx: Tx, context: PipelineContext) -> None:
    """Withdraw the questions that came from playbooks which are not in force any more, and plan those runs anew.

    Only when this replica has read its files, never whenever it looks at a run: two replicas whose files differ for a
    moment would withdraw each other's questions without end. What a run asks that has acted already stays until
    somebody answers it: only a person has such a run begin again.
    """
    for approval in approvals.list_pending(tx.connection):
        run = runs.get(tx.connection, approval.run_id)
        if run is None or run.first_action_at is not None:
            continue
        if (changed := _rewritten(context, run)) is not None:
            approvals.void(tx, run, changed, context.actor)
            runs.notify(tx, [run.id])


async def _approved(context: PipelineContext, run: Run, approval: Approval, said: Sequence[Decision]) -> StageResult:
    try:
        changed = await what_changed(context, run, approval)
    except ClientError as error:
        changed = Change(_unplannable(error))
    if changed is not None:
        why = changed.why
        return proceed(await context.store.write(lambda tx: _again(tx, context, run, approval, why)))
    who = [item.identity for item in said if item.verb == "approve"]
    detail = {"approval": approval.id, "by": who, "step": approval.step, "overrides": run.reason or ""}
    return await _move(context, run, Status.RUNNING, "approved", detail)


def _again(tx: Tx, context: PipelineContext, run: Run, approval: Approval, changed: str) -> Run:
    """From the start, by the playbook that is in force now; people are asked anew."""
    approvals.revoke(tx, run, approval, changed, context.actor)
    return _afresh(tx, context, run, {"approval": approval.id, "changed": changed})


def _afresh(tx: Tx, context: PipelineContext, run: Run, detail: Mapping[str, object]) -> Run:
    current = context.playbooks.current(run.playbook)
    if current is None and context.playbooks.active:
        return runs.transition(tx, run, Status.ESCALATED, "approval_void", detail, context.actor)
    adopt = {} if current is None else {"playbook_hash": current.content_hash}
    return runs.transition(tx, run, Status.MATCHED, "approval_void", detail, context.actor, **adopt)


async def what_changed(context: PipelineContext, run: Run, approval: Approval, *, plans: bool = True) -> Change | None:
    """Make the plan again: people approve exactly what they saw, so anything else needs them again. Changes nothing.

    Args:
        plans: False looks at the playbook only and asks no target.

    Raises:
        ClientError: the target cannot be asked how it is.
    """
    if (changed := _rewritten(context, run)) is not None:
        return Change(changed)
    if not plans:
        return None
    try:
        playbook, service = context.playbooks.of(run), context.playbooks.service(run)
        alerts = await context.store.read(lambda connection: episodes.list_for_run(connection, run.id))
        values = parameters.resolve(playbook, dict(alerts[0].labels) if alerts else {}, context.playbooks.inventory)
        plan = await make_plan(context, playbook, service, values, run.mode)
    except ClientError:
        raise
    except RemediatorError as error:
        return Change(_unplannable(error))
    return None if plan.hash == approval.plan_hash else Change("as things are now, the plan is another one", plan)


def _unplannable(error: RemediatorError) -> str:
    return f"it cannot be planned any more: {error}"


def _rewritten(context: PipelineContext, run: Run) -> str | None:
    """How the playbook that is in force differs from the one that this run began with, if it does."""
    current = context.playbooks.current(run.playbook)
    if not context.playbooks.active or (current is not None and current.content_hash == run.playbook_hash):
        return None
    return "the playbook is gone" if current is None else "the playbook has changed"


async def _move(
    context: PipelineContext, run: Run, to: Status, reason: str, detail: Mapping[str, object]
) -> StageResult:
    after = await context.store.write(
        lambda tx: runs.transition(
            tx, run, to, reason, detail, context.actor, deadline_at=tx.now + context.pace.deadline
        )
    )
    return proceed(after)
