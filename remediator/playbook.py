"""Playbooks as authors write them: match → guards → approval → diagnose → steps → verify → escalate."""

from __future__ import annotations

import hashlib
import json
from datetime import timedelta
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from remediator import expressions
from remediator.clients.endpoint import Duration
from remediator.errors import InputError
from remediator.matchers import Matcher, Operator, compile_pattern, parse_matcher

Mode = Literal["observe", "shadow", "approve", "auto"]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]


class _Block(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


def _said(check: Any, value: str) -> str:
    try:
        check(value)
    except InputError as error:
        raise ValueError(str(error)) from None
    return value


def _listed(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


class Match(_Block):
    """Which alerts are meant; everything given must hold."""

    alertname: Annotated[tuple[str, ...], BeforeValidator(_listed)] = Field(
        default=(), description="Shorthand: one alertname, or several of which one must be the alert's."
    )
    matchers: tuple[str, ...] = Field(default=(), description="Alertmanager matchers, all of which must hold.")

    @field_validator("matchers")
    @classmethod
    def _parse(cls, matchers: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(_said(parse_matcher, matcher) for matcher in matchers)

    @model_validator(mode="after")
    def _something(self) -> Match:
        if not self.alertname and not self.matchers:
            raise ValueError("match: give alertname or matchers; nothing would match everything")
        return self

    @cached_property
    def parsed(self) -> tuple[Matcher, ...]:
        """All conditions as matchers, except a choice of several alertnames."""
        named = (Matcher("alertname", Operator.EQUAL, self.alertname[0]),) if len(self.alertname) == 1 else ()
        return named + tuple(parse_matcher(matcher) for matcher in self.matchers)


class Parameter(_Block):
    """A declared, validated value: the only door through which a label comes in."""

    label: str | None = Field(default=None, description="The label that it is taken from.")
    value: Any = Field(default=None, description="Or a constant.")
    type: Literal["string", "integer", "number", "boolean", "duration", "service"] = "string"
    pattern: str | None = Field(default=None, description="RE2; the whole value must match.")
    enum: tuple[Any, ...] | None = None
    minimum: float | None = None
    maximum: float | None = None
    max_length: int = Field(default=200, ge=1, le=10_000)
    default: Any = Field(default=None, description="Used when the label is absent; without it the label is required.")

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, pattern: str | None) -> str | None:
        return pattern if pattern is None else _said(compile_pattern, pattern)

    @model_validator(mode="after")
    def _one_source(self) -> Parameter:
        if (self.label is None) == (self.value is None):
            raise ValueError("give either label or value")
        return self


class Off(_Block):
    """A guard that is switched off, and why."""

    guard: str
    reason: str = Field(min_length=5)


class Guards(_Block):
    """Settings of guards by name; all guards are on, and ``off`` needs a reason."""

    model_config = ConfigDict(extra="allow", frozen=True)
    off: tuple[Off, ...] = ()

    @property
    def settings(self) -> dict[str, Any]:
        """What the playbook says for each guard that it names."""
        return dict(self.model_extra or {})


class Approval(_Block):
    """Who has to agree, and until when."""

    required: bool = Field(default=False, description="Ask even in auto mode.")
    groups: tuple[str, ...] = Field(default=(), description="Groups whose members may approve; empty: any approver.")
    quorum: int = Field(default=1, ge=1, le=10, description="Distinct people who must agree.")
    expires: Duration = timedelta(minutes=15)


class CheckCall(_Block):
    """A check with its parameters."""

    check: str
    with_: dict[str, Any] = Field(default={}, alias="with")


class Look(_Block):
    """A diagnosis: a check or an action that only reads. It never blocks."""

    id: Name
    check: str | None = None
    action: str | None = None
    with_: dict[str, Any] = Field(default={}, alias="with")

    @model_validator(mode="after")
    def _one(self) -> Look:
        if (self.check is None) == (self.action is None):
            raise ValueError("give either check or action")
        return self


class Retry(_Block):
    """How often to try, for idempotent actions."""

    attempts: int = Field(default=1, ge=1, le=10)
    backoff: Duration = timedelta(seconds=5)


class Goto(_Block):
    """Go on at another step."""

    goto: str


class Undo(_Block):
    """How a step is put back."""

    action: str
    with_: dict[str, Any] = Field(default={}, alias="with")
    after: Duration | None = Field(default=None, description="Put it back by itself after so long.")


class Step(_Block):
    """One thing to do."""

    id: Name
    name: str = ""
    action: str
    with_: dict[str, Any] = Field(default={}, alias="with")
    timeout: Duration | None = None
    retry: Retry = Retry()
    when: str | None = Field(default=None, description="A CEL condition; without it the step always applies.")
    approval: Literal["inherit", "required"] = "inherit"
    on_success: Literal["verify", "next", "escalate"] | Goto | None = None
    on_failure: Literal["next", "abort", "escalate"] | Goto | None = None
    undo: Undo | None = None

    @field_validator("when")
    @classmethod
    def _condition(cls, when: str | None) -> str | None:
        return when if when is None else _said(expressions.check, when)


class Verify(_Block):
    """What proves success: all checks at once, after a while, within a time."""

    settle: Duration = timedelta(seconds=5)
    within: Duration = timedelta(minutes=2)
    checks: tuple[CheckCall, ...] = ()


class Escalate(_Block):
    """Whom to tell when it did not work."""

    to: tuple[str, ...] = ()
    message: str = ""


class Playbook(_Block):
    """A known remedy for a known fault."""

    apiVersion: Literal["remediator/v1"]
    kind: Literal["Playbook"]
    name: Name
    summary: str = ""
    match: Match
    mode: Mode | dict[str, Mode] = "approve"
    target: str
    parameters: dict[str, Parameter] = {}
    guards: Guards = Guards()
    approval: Approval = Approval()
    diagnose: tuple[Look, ...] = ()
    steps: tuple[Step, ...] = ()
    verify: Verify = Verify()
    escalate: Escalate = Escalate()

    def mode_in(self, environment: str) -> Mode:
        """The rung of the ladder in an environment; where nothing is said, people are asked."""
        if isinstance(self.mode, str):
            return self.mode
        return self.mode.get(environment, self.mode.get("default", "approve"))

    @cached_property
    def content_hash(self) -> str:
        """SHA-256 over what it says, not how it is written: comments and order of keys do not count."""
        content = self.model_dump(mode="json", by_alias=True)
        return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
