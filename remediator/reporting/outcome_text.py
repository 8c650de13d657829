"""The result of a run, in sentences that the record proves: proposed and tried steps, the reason, and the next action.

An escalation never claims an attempt that was not made (promise 13).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

from remediator.core.run import Reason, Run, Status
from remediator.core.run_detail import CancelledDetail, EscalatedDetail, FailedDetail, SucceededDetail
from remediator.playbooks import parameters
from remediator.reporting.formatting import format_datetime, length
from remediator.reporting.request_text import mutating_steps, sanitize
from remediator.storage.repositories.attempts import Attempt
from remediator.storage.repositories.evidence import EvidenceRecord

_HEADLINES: Mapping[Reason, str] = {
    Reason.NO_PLAN: "no plan could be made",
    Reason.NOT_ABOUT_TARGET: "the alert is about something else",
    Reason.DIAGNOSED: "diagnosed; the playbook has no step for this",
    Reason.APPROVAL_EXPIRED: "no decision before the deadline",
    Reason.APPROVAL_VOID: "the request is outdated and the playbook was removed",
    Reason.NOT_IN_AUDIT_LOG: "the stored run differs from the audit log",
    Reason.DEADLINE: "the run reached its time limit",
    Reason.OUTCOME_UNKNOWN: "it is unknown whether a call took effect",
    Reason.STEP_FAILED: "a step failed",
    Reason.STEP_ESCALATES: "the playbook hands over to you after a step",
    Reason.REGRESSION: "it got worse after a step",
    Reason.NOT_PROVED: "there is no proof that it helped",
    Reason.REJECTED: "rejected",
    Reason.NOT_NEEDED: "nothing had to be done",
}
_RELAPSES = {
    "came_back": "it was healed, and the alert fires again",
    "still_firing": "the checks were ok, but the alert still fires",
    "relapsed": "it was healed, and its checks fail again",
}


def headline(run: Run, tried: Sequence[Attempt], content: Mapping[str, Any] | None = None) -> str:
    """Return briefly why people are needed.

    Args:
        run: the run.
        tried: its attempts.
        content: of the message, if it has more than the run: a relapse, or a measure that is still in force.
    """
    told = content or {}
    reason = str(told.get("reason") or "")
    if reason in _RELAPSES:
        return f"relapse: {_RELAPSES[reason]}"
    if told.get("status") not in (None, run.status.value):
        return str(told["status"])
    if run.reason is Reason.NO_STEP_LEFT:
        return "every step was tried" if changes(tried) else "no step applied, so nothing was tried"
    if run.reason is Reason.DIAGNOSED and _has_remedy(run):
        return "no step fits the evidence"
    if run.reason is not None and run.reason in _HEADLINES:
        return _HEADLINES[run.reason]
    return (run.reason or run.status.value).replace("_", " ")


def _has_remedy(run: Run) -> bool:
    return run.plan is not None and bool(mutating_steps(run.plan))


def changes(tried: Sequence[Attempt]) -> list[Attempt]:
    """Return the attempts that change something, undo calls left out."""
    return [item for item in tried if item.mutates and not item.is_undo]


def done_lines(tried: Sequence[Attempt]) -> Iterator[str]:
    """Yield each call that was made, with its outcome and its duration."""
    for item in tried:
        if not item.mutates:
            continue
        took = "" if item.outcome_at is None else f" after {length((item.outcome_at - item.intent_at).total_seconds())}"
        summary = str((item.result or {}).get("summary", ""))
        outcome = f"{item.outcome or 'still running'}{took}"
        undo = " (undo)" if item.is_undo else ""
        yield sanitize(f"{item.step}{undo}: {item.call.get('text', '')}: {outcome}{f': {summary}' if summary else ''}")


def what_happened(run: Run, tried: Sequence[Attempt], content: Mapping[str, Any] | None = None) -> Iterator[str]:
    """Yield the proposed and the tried steps, and why people are needed."""
    done = list(done_lines(tried))
    planned = [] if run.plan is None or run.reason is Reason.DIAGNOSED else mutating_steps(run.plan)
    if planned and not done:
        yield sanitize(f"Proposed: {'; '.join(step.call.text for step in planned)}")
    yield from (f"Tried: {line}" for line in done)
    if not done:
        yield "Nothing was tried: no call was made that changes anything."
    told = dict((content or {}).get("detail") or {})
    reason = str((content or {}).get("reason") or "")
    said = [str(told[name]) for name in ("text", "message", "why", "observed") if told.get(name)]
    missing = told.get("missing")
    if isinstance(missing, list):
        said.append("; ".join(map(str, missing)))
    first = _sentence(run)
    if reason in _RELAPSES:
        first = "relapse" if said else headline(run, (), content)  # the title has the headline, and the text the rest
    why = dict.fromkeys(part for part in (first, "; ".join(dict.fromkeys(said))) if part)
    yield sanitize(f"Why: {': '.join(why)}")


def _sentence(run: Run) -> str:
    detail = run.detail
    if run.reason is Reason.APPROVAL_EXPIRED and isinstance(detail, EscalatedDetail) and detail.expired_at:
        return f"no decision before {format_datetime(detail.expired_at)}"
    if run.reason is Reason.DEADLINE and isinstance(detail, EscalatedDetail) and detail.deadline:
        return f"the run was not finished at {format_datetime(detail.deadline)}"
    if run.reason is Reason.STEP_FAILED and isinstance(detail, FailedDetail):
        return f"step {detail.step} failed or did not help"
    if run.reason is Reason.STEP_ESCALATES and isinstance(detail, EscalatedDetail):
        return f"step {detail.step} ended, and the playbook escalates after this step"
    if run.reason is Reason.NO_STEP_LEFT:
        return "no step of the playbook is left, and the verification did not pass"
    if run.reason is Reason.DIAGNOSED and _has_remedy(run):
        return headline(run, ())
    if run.reason is Reason.REJECTED and isinstance(detail, CancelledDetail):
        return f"rejected by {', '.join(detail.by)}"
    return _HEADLINES.get(run.reason, "") if run.reason else ""


def next_step_lines(run: Run, tried: Sequence[Attempt], *, fires: bool) -> Iterator[str]:
    """Yield what a person should do next; nothing if there is nothing to do.

    After an unknown outcome: check and release the target. While the alert fires: start a new run.

    Args:
        run: the run.
        tried: its attempts.
        fires: whether an alert of the run still fires.
    """
    if run.reason is Reason.OUTCOME_UNKNOWN or (run.finished_at is not None and run.holds_target):
        yield (
            f"Check {run.target}: did the call take effect? Then release the target: "
            f'remediator run cancel {run.id} --reason "checked"'
        )
        return
    if run.finished_at is None or not fires or not run.incident_open or run.reason is Reason.DIAGNOSED:
        return
    if run.plan is not None and mutating_steps(run.plan):
        first = "To try again" if changes(tried) else "To have it done now"
        yield f'{first}, start a new run: remediator run retry {run.id} --reason "…" (or Retry on the page of the run)'


def healed_lines(run: Run, tried: Sequence[Attempt], seen: Sequence[EvidenceRecord]) -> Iterator[str]:
    """Yield the duration of a healed run, its calls and the proof."""
    if run.finished_at is not None:
        acted = None if run.first_action_at is None else run.finished_at - run.first_action_at
        since = "" if acted is None else f"; {_span(acted)} after the first action"
        yield f"Healed {_span(run.finished_at - run.created_at)} after the run began{since}"
    yield from (f"Done: {line}" for line in done_lines(tried))
    proof = run.detail.proof if isinstance(run.detail, SucceededDetail) else ()
    for item in proof or [item.summary for item in seen if item.phase == "verify" and item.status == "ok"]:
        yield sanitize(f"Proof: {item}")


def _span(span: timedelta) -> str:
    return length(span.total_seconds())


def result_lines(run: Run, tried: Sequence[Attempt], seen: Sequence[EvidenceRecord]) -> tuple[str, ...]:
    """Return the result of an ended run; empty for an open run."""
    if run.status is Status.SUCCEEDED:
        return tuple(healed_lines(run, tried, seen))
    if run.finished_at is None:
        return ()
    return tuple(what_happened(run, tried))


def context_line(message: str, seen: Sequence[EvidenceRecord]) -> str:
    """Return the playbook's own text for an escalation, with its facts filled in; empty if it has no text.

    Args:
        message: ``escalate.message`` with its parameters filled in.
        seen: the evidence of the run.
    """
    newest = {item.name: item.facts for item in seen if item.phase in ("diagnose", "step")}
    return sanitize(f"From the playbook: {parameters.fill_facts(message, newest)}") if message else ""
