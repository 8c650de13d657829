"""The inputs behind the status of a run: one type for each status.

A detail is stored as JSON, copied into the audit entry of the transition, and shown in chat, on web pages and by the
API. Fields that have their default value are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec

from remediator.core.reason import Reason


class ShadowDecision(StrEnum):
    """The decision of a run in mode ``shadow``."""

    ACT = "act"
    ASK = "ask"
    """The run would have asked for an approval: a guard could not decide, or the loss is above the tolerance."""
    NOTHING = "nothing"
    """No step that changes something was due."""


class Detail(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Base of the details of all statuses."""

    text: str = ""
    """One sentence for people; empty if the reason is sufficient."""

    @property
    def summary(self) -> str:
        """Return the detail of the status in one line; empty if the reason is sufficient."""
        return self.text

    def to_data(self) -> dict[str, Any]:
        """Return the detail as plain data, for the store and for JSON."""
        data: dict[str, Any] = msgspec.to_builtins(self)
        return data


class GuardDetail(Detail, frozen=True, omit_defaults=True, kw_only=True):
    """A guard's verdict that is not *allow*."""

    guard: str = ""
    """The guard that decided; empty if no guard did."""
    guard_reason: str = ""
    """The guard's typed reason."""
    inputs: Mapping[str, Any] = {}
    """The inputs of the decision of the guard."""
    until: datetime | None = None
    """When to evaluate again, if that is known."""


class MatchedDetail(Detail, frozen=True, omit_defaults=True, kw_only=True):
    """Detail of a run with status ``matched``: a new run, or a run that is planned again."""

    was: Reason | None = None
    """The earlier reason why the run was blocked."""
    approval: str = ""
    """The outdated approval request."""
    why: str = ""
    """The reason why a person withdrew the request."""
    changed: str = ""
    """The difference to the plan of the request."""


class PlannedDetail(Detail, frozen=True, omit_defaults=True, kw_only=True):
    """Detail of a run with status ``planned``."""

    steps: tuple[str, ...] = ()
    """The calls that change something, in order."""


class BlockedDetail(GuardDetail, frozen=True, omit_defaults=True, kw_only=True):
    """Detail of a run with status ``blocked``: by a guard, the mode or a snooze, or because the alert resolved."""

    since: datetime | None = None
    """Since when guards block the run without a pause."""
    would: ShadowDecision | None = None
    """The action that mode ``shadow`` prevented, also after the alert resolved."""
    approval: str = ""
    """The snoozed approval request."""
    why: str = ""
    """The reason of the person who snoozed the request."""


class AwaitingApprovalDetail(GuardDetail, frozen=True, omit_defaults=True, kw_only=True):
    """Detail of a run with status ``awaiting_approval``."""

    approval: str = ""
    """ID of the request."""
    mode: str = ""
    """The mode that requires an approval."""
    step: str = ""
    """The step that requires an approval."""
    call: str = ""
    """The call of this step."""
    risk: str | None = None
    """Possible damage or loss."""


class RunningDetail(Detail, frozen=True, omit_defaults=True, kw_only=True):
    """Detail of a run with status ``running``."""

    was: Reason | None = None
    """The earlier reason why the run was blocked."""
    approval: str = ""
    """The request that was approved."""
    by: tuple[str, ...] = ()
    """Who approved it."""
    step: str | None = None
    """The step that the approval is for; None for the whole plan."""
    overrides: Reason | None = None
    """The reason of the request that the approval answers."""
    guard: str = ""
    """The guard whose *unknown* the approval overrides."""
    attempt: str = ""
    """The attempt that was observed."""
    happened: str = ""
    """Whether this attempt took effect."""
    cursor: str | None = None
    """The next step."""


class UnknownOutcomeDetail(Detail, frozen=True, omit_defaults=True, kw_only=True):
    """Detail of a run with status ``unknown_outcome``."""

    attempt: str
    step: str
    why: str


class VerifyingDetail(Detail, frozen=True, omit_defaults=True, kw_only=True):
    """Detail of a run with status ``verifying``."""

    step: str
    """The step to verify."""
    since: datetime
    """When settling began."""
    resolved: bool = False
    """The alert resolved while steps were left."""
    ok_since: datetime | None = None
    """Since when all checks are ok, where they must stay ok for a time."""
    lives: Mapping[str, str] = {}
    """The instances since then, each with a value that changes when it starts again."""


class SucceededDetail(Detail, frozen=True, omit_defaults=True, kw_only=True):
    """Detail of a run with status ``succeeded``."""

    step: str = ""
    """The step that helped."""
    proof: tuple[str, ...] = ()
    """The results of the verification checks."""
    ineffective: bool = False
    """The alert kept firing or returned after the success."""

    @property
    def summary(self) -> str:
        return self.text or "; ".join(self.proof)


class FailedDetail(Detail, frozen=True, omit_defaults=True, kw_only=True):
    """Detail of a run with status ``failed``."""

    step: str = ""


class EscalatedDetail(GuardDetail, frozen=True, omit_defaults=True, kw_only=True):
    """Detail of a run with status ``escalated``."""

    step: str = ""
    """The step that failed, escalates, made things worse, or has an unknown outcome."""
    attempt: str = ""
    """The attempt of unknown outcome."""
    observed: str = ""
    """The result of the observation of the target."""
    undone: tuple[Mapping[str, Any], ...] = ()
    """The steps that were undone, each with outcome and summary."""
    causes: tuple[str, ...] = ()
    """The likely causes."""
    message: str = ""
    """The reason why no plan could be made."""
    error: str = ""
    """Class of this error."""
    approval: str = ""
    """The request that expired or is outdated."""
    expired_at: datetime | None = None
    deadline: datetime | None = None
    why: str = ""
    """The reason why a person withdrew the request."""
    changed: str = ""
    """The difference to the plan of the request."""

    @property
    def summary(self) -> str:
        return self.text or self.message or self.observed


class CancelledDetail(Detail, frozen=True, omit_defaults=True, kw_only=True):
    """Detail of a run with status ``cancelled``."""

    who: str = ""
    """Who cancelled the run."""
    reason: str = ""
    """The reason that this person gave."""
    approval: str = ""
    """The request that was rejected."""
    by: tuple[str, ...] = ()
    """Who rejected it."""
    why: str | None = None
    """The reason that this person gave."""
    would: ShadowDecision | None = None
    """The action that mode ``shadow`` prevented."""
