"""The model of the parts of a run: diagnoses, conclusions, steps and the proof of success."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from remediator.core.types import Duration, FieldError, PositiveDuration, Strict
from remediator.playbooks.catalogue import ActionTraits
from remediator.playbooks.field_types import NAMES, ConditionText, Name, With, as_list
from remediator.playbooks.tolerance import Tolerance


class CheckCall(Strict):
    """A check with its parameters."""

    check: str = Field(description="Name of the check.")
    with_: With


class Diagnosis(Strict):
    """One diagnosis: a check, or a read-only action. A failed diagnosis never blocks a run."""

    id: Name = Field(description="ID in conditions: evidence.<id>.")
    check: str | None = Field(default=None, description="Name of a check; alternative: action.")
    action: str | None = Field(default=None, description="Name of a read-only action; alternative: check.")
    service: str | None = Field(default=None, description="Service of the inventory to examine instead of the target.")
    with_: With

    @model_validator(mode="after")
    def _check_kind(self) -> Diagnosis:
        if (self.check is None) == (self.action is None):
            message = "both check and action are set" if self.check else "neither check nor action is set"
            raise FieldError(message, hint="set one of the two")
        return self


class Conclusion(Strict):
    """A likely cause, and the evidence that points to it."""

    id: Name | None = Field(
        default=None,
        description="ID of the cause, for the for of steps. A conclusion without an ID is a hint for people and gates "
        "no step.",
    )
    when: ConditionText = Field(
        description="CEL condition on evidence.<id>.{ok,status,facts}, params.<name> and "
        "target.{name,platform}. If its result is unknown, the cause is not named."
    )
    cause: str = Field(min_length=1, max_length=300, description="The likely cause, and what to examine.")


class Retry(Strict):
    """How often to try a step. Only idempotent actions can have more than one attempt."""

    attempts: int = Field(default=1, ge=1, le=10, description="Maximum number of attempts.")
    backoff: Duration = Field(
        default=timedelta(seconds=5), description="Pause before the second attempt; doubled for each further attempt."
    )


class Goto(Strict):
    """Continue at a later step."""

    goto: str = Field(description="ID of a later step.")


class Undo(Strict):
    """How to undo a step."""

    action: str | None = Field(
        default=None,
        description="Action for the undo; default: the reverse of the step's action, with the values that it recorded.",
    )
    with_: With
    after: PositiveDuration | None = Field(
        default=None, description="Undo automatically after this time; without it, only on failure or on request."
    )


class Step(Strict):
    """One step. After a change the run continues with verify, after a read-only action with the next step."""

    id: Name = Field(description="ID in conditions (steps.<id>), in goto and in the audit log.")
    name: str = Field(default="", description="Title, for readers.")
    action: str = Field(description="Name of the action.")
    for_: Annotated[tuple[Name, ...], BeforeValidator(as_list), NAMES] = Field(
        default=(),
        alias="for",
        description="Causes for this step: IDs of conclude. A step that interrupts or destroys something runs "
        "automatically only if a cause is established and every established cause is one of these.",
    )
    with_: With
    timeout: PositiveDuration | None = Field(
        default=None, description="Timeout of one attempt; default: the timeout of the action."
    )
    retry: Retry = Field(default=Retry(), description="Retries; only for idempotent actions.")
    when: ConditionText | None = Field(
        default=None,
        description="CEL condition on evidence.<id>.{ok,status,facts}, steps.<id>.{status,output}, "
        "params.<name>, target.{name,platform} and cost.<fact> of this step. The step is skipped if it does not hold.",
    )
    tolerance: Tolerance = Field(
        default=Tolerance(),
        description="Losses that need no approval. A greater loss, or an unknown one, needs an approval in every mode. "
        "Replaces single limits of the service in the inventory.",
    )
    approval: Literal["inherit", "required"] = Field(
        default="inherit", description="required: this step needs approval in mode auto too."
    )
    on_success: Literal["verify", "next", "escalate"] | Goto | None = Field(
        default=None, description="Next stage after a success; default: verify, or next for a read-only action."
    )
    on_failure: Literal["next", "abort", "escalate"] | Goto | None = Field(
        default=None, description="Next stage if the step or its verification fails; default: next."
    )
    undo: Undo | None = Field(default=None, description="How to undo the step.")

    def needs_approval(self, traits: ActionTraits) -> bool:
        """Return whether the step needs an approval in every mode. A destructive action always does."""
        return self.approval == "required" or traits.requires_approval or traits.destructive

    def success_arrow(self, traits: ActionTraits) -> str | Goto:
        """Return the next stage after a success: the one of the playbook, or the default for the action."""
        return self.on_success or ("verify" if traits.mutates else "next")

    @property
    def failure_arrow(self) -> str | Goto:
        """Return the next stage after a failure: the one of the playbook, or the default."""
        return self.on_failure or "next"

    @property
    def gotos(self) -> Iterator[tuple[str, str]]:
        """Yield field and step ID of each goto."""
        for arrow in ("on_success", "on_failure"):
            target = getattr(self, arrow)
            if isinstance(target, Goto):
                yield arrow, target.goto


class Verify(Strict):
    """The proof of success: all checks are ok at once, before the timeout. Nothing else proves success."""

    settle: Duration = Field(default=timedelta(seconds=5), description="Wait before the first check.")
    within: PositiveDuration = Field(
        default=timedelta(minutes=2), description="Timeout for all checks to be ok, from the end of settle."
    )
    stable: Duration = Field(
        default=timedelta(0),
        description="How long all checks must stay ok before the run succeeds, for example 1m after a crash loop.",
    )
    checks: tuple[CheckCall, ...] = Field(
        default=(), description="All must be ok at once. Without checks no run succeeds."
    )
