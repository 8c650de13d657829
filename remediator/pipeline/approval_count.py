"""Check again, right before anything is done, that the run may act: by the audit log, not by columns.

The status of a request records the decision at that time. An approver may have lost the right since, and one SQL
statement can change the status. So acting counts the decisions: each one must be in the audit log, and its person must
have the right now (promises 6 and 9). For the same reason, the status, the mode and the plan of the run must equal the
audit log.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection

from remediator.audit import Kind, decode, redact_json
from remediator.audit.canonical import NotCanonical
from remediator.audit.entry import Entry
from remediator.core.approval import ApprovalStatus, Permission, PermissionDenied, check_may_decide, normalize_id
from remediator.core.plan import Plan
from remediator.core.run import Reason, Run
from remediator.core.run_detail import AwaitingApprovalDetail
from remediator.errors import RemediatorError
from remediator.pipeline.context import PipelineContext, StageResult, proceed, wait_until
from remediator.pipeline.decisions import requirements_of
from remediator.pipeline.guard import needs_approval
from remediator.pipeline.recorded import planned_problem
from remediator.pipeline.run_context import IntentTransaction, RunTransaction
from remediator.storage.repositories import approvals, audit
from remediator.storage.repositories.approvals import Approval, Decision

_MAX_DECISIONS = 500


class IntentRefused(RemediatorError):
    """Raised inside the transaction of an intent, to roll it back.

    Args:
        why: one sentence.
        then: the change of the run to make instead, in a separate transaction.
    """

    def __init__(self, why: str, then: Callable[[RunTransaction], StageResult]) -> None:
        super().__init__(why)
        self.then = then


def require_authority(tx: IntentTransaction, plan: Plan, step: str, *, is_new: bool) -> None:
    """Check that a step may be done: the run equals the audit log, and a required approval still counts.

    Args:
        tx: the transaction of an intent.
        plan: the plan of the run.
        step: ID of the step.
        is_new: this process created the run and has never released it, so that people were never asked.

    Raises:
        IntentRefused: it may not. The run is escalated, or people are asked again.
    """
    # A plan that is written by this transaction was never read from a row, and neither were its transitions. In any
    # other case, what this process read from the row must be in the audit log.
    if not tx.changes.has_plan:
        problem = planned_problem(tx.connection, tx.stored, plan)
        if problem is not None:
            why = problem
            raise IntentRefused(why, lambda again: proceed(again.escalate_unrecorded(why)))
    known = [] if is_new else approvals.list_for_run(tx.connection, tx.run.id)
    given = [item for item in known if item.status == ApprovalStatus.APPROVED]
    latest = given[-1] if given else None
    if latest is None:
        missing = "the run needs an approval, and has none" if needs_approval(tx.run, plan) else None
    else:
        # an older approval of this step may be the one that allows it
        found = [missing_approval(tx.connection, tx.pipeline, tx.run, item) for item in given if step in item.steps]
        found = found or [missing_approval(tx.connection, tx.pipeline, tx.run, latest)]
        missing = None if None in found else found[-1]
    if missing is not None:
        why = missing
        raise IntentRefused(why, lambda again: _ask_again(again, plan, latest, why))


def _ask_again(tx: RunTransaction, plan: Plan, approval: Approval | None, why: str) -> StageResult:
    if approval is not None:
        approvals.revoke(tx.tx, tx.run, approval, why, tx.pipeline.actor)
    step = None if approval is None else approval.step
    after = tx.request_approval(plan, step, Reason.APPROVAL_NEEDED, AwaitingApprovalDetail(text=why))
    return wait_until(after, after.wake_at)


def missing_approval(connection: Connection, pipeline: PipelineContext, run: Run, approval: Approval) -> str | None:
    """Return why the approvals of an approved request are not sufficient now; None if they are."""
    quorum, recorded = _recorded(connection, run, approval)
    if quorum is None:
        return "the request is not in the audit log"
    agreed: set[str] = set()
    lost: list[str] = []
    for decision in approvals.list_decisions(connection, approval.id):
        if decision.verb != "approve":
            continue
        actor = redact_json(decision.identity, pipeline.store.redactor)
        if actor not in recorded:
            lost.append(f"the decision of {decision.identity!r} is not in the audit log")
        elif recorded[actor] != (decision.how, decision.break_glass):
            lost.append(f"the decision of {decision.identity!r} differs from the audit log")
        elif (why := _lost_right(connection, pipeline, run, approval, decision)) is not None:
            lost.append(why)
        elif decision.break_glass:
            return None
        else:
            agreed.add(normalize_id(decision.identity))
    if len(agreed) >= quorum:
        return None
    return "; ".join([f"{len(agreed)} of {quorum} approvals count now", *lost])


def _recorded(connection: Connection, run: Run, approval: Approval) -> tuple[int | None, dict[str, tuple[Any, Any]]]:
    """Return the quorum of the request and who approved it, how and whether by break-glass, by the audit log.

    The quorum is None if the log does not have the request.
    """
    quorum = None
    for entry in _entries_about(connection, run, approval, Kind.APPROVAL_REQUESTED):
        if isinstance(entry.data.get("quorum"), int):
            quorum = int(entry.data["quorum"])
    found: dict[str, tuple[Any, Any]] = {}
    for entry in _entries_about(connection, run, approval, Kind.APPROVAL_DECIDED):
        if entry.data.get("verb") == "approve":
            found[entry.actor] = (entry.data.get("how"), entry.data.get("break_glass"))
    return quorum, found


def _entries_about(connection: Connection, run: Run, approval: Approval, kind: Kind) -> Iterator[Entry]:
    """Yield the entries of this kind about a request, newest first. An entry that cannot be read proves nothing."""
    for sealed in audit.list_newest(connection, _MAX_DECISIONS, run=run.id, kind=kind.value):
        try:
            entry = decode(sealed.canonical)
        except NotCanonical:
            continue
        if entry.kind == kind.value and entry.data.get("approval") == approval.id:
            yield entry


def _lost_right(
    connection: Connection, pipeline: PipelineContext, run: Run, approval: Approval, decision: Decision
) -> str | None:
    """Return why a person may not approve the request any more; None if the person may."""
    person = pipeline.current_person(decision.identity, decision.how, decision.claimed)
    if person is None:
        return f"{decision.identity!r} is not in the people file any more"
    try:
        if decision.break_glass:
            person.require(Permission.BREAK_GLASS)
        else:
            required = requirements_of(connection, approval, run)
            if run.plan is not None and run.plan.hash == approval.plan_hash:  # the plan is that of the audit log
                required = replace(required, groups=run.plan.approval_groups)
            check_may_decide(person, "approve", required, link_holders=pipeline.allow_link_only)
    except PermissionDenied as error:
        return str(error)
    return None
