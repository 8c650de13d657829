"""The reasons for the status of a run."""

from __future__ import annotations

from enum import StrEnum
from typing import Self


class OpenEnum(StrEnum):
    """Texts with a fixed list, which a newer version may extend.

    An unknown text is kept and shown; no stage acts on it.
    """

    @classmethod
    def _missing_(cls, value: object) -> Self:
        foreign = str.__new__(cls, value)
        foreign._name_, foreign._value_ = "FOREIGN", str(value)
        return foreign


class Reason(OpenEnum):
    """Why a run is in its status: the same word in the store, the logs, the metrics, the audit log and the API."""

    NO_PLAN = "no_plan"
    """Escalated: no plan could be made. The detail has the error."""
    NOT_ABOUT_TARGET = "not_about_target"
    """Escalated: the labels of the alert name something else than the target. The detail shows both sides."""
    NO_IDENTIFYING_LABEL = "no_identifying_label"
    """Escalated: no label of the alert names a target. The detail shows both sides."""
    TARGET_GONE = "target_gone"
    """Escalated: the inventory no longer has the target, so nothing more is done to it."""
    NOT_NEEDED = "not_needed"
    """Cancelled: every check of the verification was ok before the first step, so nothing was done."""
    DIAGNOSED = "diagnosed"
    """Escalated: the playbook has no steps, or no step is for the cause. The detail has the likely causes."""
    OBSERVE = "observe"
    """Blocked: the mode is ``observe``; nothing is done."""
    SHADOW = "shadow"
    """Blocked: the mode is ``shadow``; the detail has the planned actions."""
    GUARD_BLOCKED = "guard_blocked"
    """Blocked: the guard in ``blocked_by`` does not allow an action now. The detail has its reason and inputs."""
    GUARD_UNKNOWN = "guard_unknown"
    """Awaiting approval: a guard could not decide. An approval overrides this one guard."""
    CONDITION_UNKNOWN = "condition_unknown"
    """Awaiting approval: the ``when`` condition of a step that changes something is unknown."""
    APPROVAL_NEEDED = "approval_needed"
    """Awaiting approval: the mode or the playbook requires it."""
    STEP_NEEDS_APPROVAL = "step_needs_approval"
    """Awaiting approval: this step requires it in every mode."""
    COMMITS_LOST = "commits_lost"
    """Awaiting approval: the database lost its last commits, so this step may have been done already."""
    APPROVED = "approved"
    """Running: enough people approved this plan."""
    REJECTED = "rejected"
    """Cancelled: a person rejected the request."""
    SNOOZED = "snoozed"
    """Blocked: a person answered "not now"; the run is planned again later."""
    APPROVAL_EXPIRED = "approval_expired"
    """Escalated: the request expired without a decision."""
    APPROVAL_VOID = "approval_void"
    """Matched or escalated: the plan or the playbook differs from the request."""
    UNBLOCKED = "unblocked"
    """Matched or running: no guard blocks the run any more."""
    RESOLVED = "resolved"
    """The alert resolved: blocked until it is over, cancelled, or verified if something was done."""
    FIRED_AGAIN = "fired_again"
    """Matched: the alert resolved and fired again before the episode was over."""
    CANCELLED = "cancelled"
    """Cancelled: a person cancelled the run."""
    NOT_IN_AUDIT_LOG = "not_in_audit_log"
    """Escalated: the status, mode or plan of the run differs from the audit log, so nothing was done."""
    DEADLINE = "deadline"
    """Escalated: the run took longer than ``timing.run_timeout``."""
    OUTCOME_UNKNOWN = "outcome_unknown"
    """Whether a call took effect is unknown: the target is observed, or the run is escalated."""
    OBSERVED = "observed"
    """Running: the observation of the target showed whether the call took effect."""
    NO_STEP_LEFT = "no_step_left"
    """Escalated: every step was done or skipped, and the target is not healthy."""
    STEP_FAILED = "step_failed"
    """Failed: a step failed and its ``on_failure`` is ``abort``."""
    STEP_ESCALATES = "step_escalates"
    """Escalated: the step's ``on_success`` or ``on_failure`` is ``escalate``."""
    NEXT_STEP = "next_step"
    """Running: verification failed; the next step is done."""
    REGRESSION = "regression"
    """Escalated: a watched value got worse after a step. The detail lists the undone steps."""
    NOT_PROVED = "not_proved"
    """Escalated: all checks are ok, but no check had failed before the first step, so they prove nothing."""
    VERIFIED = "verified"
    """Succeeded: every verification check is positive. The detail has the proof."""
