"""Transitions of claimed runs, each with its audit entry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from remediator.audit import Draft, Kind
from remediator.core.run import TERMINAL, Reason, Run, Status, check_transition
from remediator.core.run_detail import BlockedDetail, Detail
from remediator.storage import Tx
from remediator.storage.repositories.run_claims import save
from remediator.storage.repositories.runs import draft
from remediator.storage.repositories.target_locks import may_still_act


def set_reason(tx: Tx, run: Run, reason: Reason, detail: Detail) -> Run:
    """Change why a claimed run is in its status.

    Raises:
        Fenced: the claim is lost.
    """
    return save(tx, run, reason=reason, detail=detail, **_blocked_columns(reason, detail))


def _blocked_columns(reason: Reason | None, detail: Detail) -> dict[str, str | None]:
    """Return the columns with the reason why a run is blocked, so that it is found when the block is over."""
    if reason is not Reason.GUARD_BLOCKED or not isinstance(detail, BlockedDetail):
        return {"blocked_by": None, "blocked_by_run": None}
    other = detail.inputs.get("run")
    return {"blocked_by": detail.guard, "blocked_by_run": other if isinstance(other, str) else None}


def transition(tx: Tx, run: Run, to: Status, reason: Reason | None, detail: Detail, actor: str, **changes: Any) -> Run:
    """Move a claimed run to another status, with its audit entry, in this transaction.

    Raises:
        IllegalTransition: :data:`remediator.core.run.TRANSITIONS` does not have it.
        Fenced: the claim is lost.
    """
    values = transition_columns(run, to, reason, detail, changes)
    if to in TERMINAL:
        values.update(finished_at=tx.now)  # the run stays due: this process or the next one must finish its end
        values.setdefault("holds_target", run.holds_target and may_still_act(tx.connection, run.id))
    after = save(tx, run, **values)
    tx.append_audit(transition_draft(run, after, actor))
    return after


def transition_columns(
    run: Run, to: Status, reason: Reason | None, detail: Detail, changes: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the columns that a transition to a non-final status changes.

    Raises:
        IllegalTransition: :data:`remediator.core.run.TRANSITIONS` does not have it.
    """
    check_transition(run.status, to)
    return {"status": to, "reason": reason, "detail": detail, **_blocked_columns(reason, detail), **changes}


def transition_draft(before: Run, after: Run, actor: str) -> Draft:
    """Return the audit entry of a transition."""
    data = {"from": before.status.value, "to": after.status.value, "detail": after.detail.to_data()}
    return draft(Kind.RUN_TRANSITION, after, actor, data, after.reason)
