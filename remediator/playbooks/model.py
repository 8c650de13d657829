"""The model of playbooks: match → guards → approval → diagnose → steps → verify → escalate.

The JSON Schema and the documentation are generated from the descriptions of the fields.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, PrivateAttr, WithJsonSchema, model_validator

from remediator.core.clock import is_duration
from remediator.core.matchers import Matcher, Operator, compile_pattern, parse_matcher
from remediator.core.types import Duration, FieldError, PositiveDuration, Strict, raise_all
from remediator.errors import ParseError
from remediator.playbooks import cel
from remediator.playbooks.diagnostics import did_you_mean
from remediator.playbooks.tolerance import Tolerance

Mode = Literal["observe", "shadow", "approve", "auto"]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
ParameterType = Literal["string", "integer", "number", "boolean", "duration", "service"]


def _parsed_by(parse: Callable[[str], Any], rule: str) -> Any:
    def check(text: str) -> str:
        try:
            parse(text)
        except ParseError as error:
            raise FieldError(error.message, column=error.column, hint=error.hint, rule=rule) from None
        return text

    return AfterValidator(check)


def _as_list(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


MatcherText = Annotated[str, _parsed_by(parse_matcher, "bad-matcher")]
Pattern = Annotated[str, _parsed_by(compile_pattern, "bad-pattern")]
ConditionText = Annotated[str, _parsed_by(cel.compile, "bad-condition")]


_NAMES = WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]})


class Match(Strict):
    """Which alerts start the playbook. All conditions must hold."""

    alertname: Annotated[tuple[str, ...], BeforeValidator(_as_list), _NAMES] = Field(
        default=(), description="Name of the alert, or a list of names."
    )
    matchers: tuple[MatcherText, ...] = Field(
        default=(),
        description='Alertmanager matchers, for example severity="critical" or env=~"prod|demo"; all must hold. '
        "Regular expressions are RE2 and match the whole value. A missing label counts as empty.",
    )

    @model_validator(mode="after")
    def _check_conditions(self) -> Match:
        if not self.alertname and not self.matchers:
            raise FieldError("match has no condition, so it would match every alert", hint="add alertname or matchers")
        return self

    @cached_property
    def parsed(self) -> tuple[Matcher, ...]:
        """Return all conditions as matchers. Several alert names become one regular expression."""
        return (*self._alertname_matcher, *(parse_matcher(matcher) for matcher in self.matchers))

    @property
    def _alertname_matcher(self) -> tuple[Matcher, ...]:
        if len(self.alertname) == 1:
            return (Matcher("alertname", Operator.EQUAL, self.alertname[0]),)
        names = "|".join(re.sub(r"([^\w\s])", r"\\\1", name) for name in self.alertname)
        return (Matcher("alertname", Operator.MATCHES, names),) if names else ()


_OPTIONS: dict[str, frozenset[str]] = {
    "pattern": frozenset({"string"}),
    "max_length": frozenset({"string"}),
    "minimum": frozenset({"integer", "number"}),
    "maximum": frozenset({"integer", "number"}),
    "enum": frozenset({"string", "integer", "number"}),
}


class Parameter(Strict):
    """A declared and validated value. Labels of the alert enter a playbook through parameters only."""

    label: str | None = Field(default=None, min_length=1, description="Label of the alert that contains the value.")
    value: Any = Field(default=None, description="Constant, instead of a label.")
    type: ParameterType = Field(
        default="string",
        description="Type of the value. A service must be in the inventory. A string must not contain control "
        "characters or begin with '-'.",
    )
    pattern: Pattern | None = Field(default=None, description="RE2 pattern that the whole string must match.")
    enum: tuple[str | int | float, ...] | None = Field(default=None, min_length=1, description="Allowed values.")
    minimum: float | None = Field(default=None, description="Smallest allowed number.")
    maximum: float | None = Field(default=None, description="Largest allowed number.")
    max_length: int = Field(default=200, ge=1, le=10_000, description="Maximum number of characters of a string.")
    default: Any = Field(
        default=None,
        description="Value if the alert does not have the label. Without a default the label is required: an alert "
        "without it is escalated.",
    )
    description: str = Field(default="", description="Description, for readers.")

    @model_validator(mode="after")
    def _consistent(self) -> Parameter:
        raise_all(tuple(self._errors()))
        return self

    def _errors(self) -> Iterator[FieldError]:
        if (self.label is None) == (self.value is None):
            message = "both label and value are set" if self.label else "neither label nor value is set"
            yield FieldError(message, hint="set label for a value from the alert, or value for a constant")
        if self.value is not None and self.default is not None:
            yield FieldError("a constant cannot have a default", ("default",), hint="remove default")
        for option, types in _OPTIONS.items():
            given = getattr(self, option) != type(self).model_fields[option].default
            if given and self.type not in types:
                hint = f"{option} is for type {' or '.join(sorted(types))}"
                yield FieldError(f"{option} is not allowed for type {self.type}", (option,), hint=hint)
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            yield FieldError(f"minimum {self.minimum:g} is greater than maximum {self.maximum:g}", ("minimum",))
        yield from self._type_errors()

    def _type_errors(self) -> Iterator[FieldError]:
        given: list[tuple[tuple[str | int, ...], Any]] = [(("value",), self.value), (("default",), self.default)]
        given += [(("enum", at), value) for at, value in enumerate(self.enum or ())]
        article = "an" if self.type == "integer" else "a"
        for place, value in given:
            if value is not None and not is_a(self.type, value):
                shown = json.dumps(value, ensure_ascii=False)[:60]
                yield FieldError(f"{shown} is not {article} {self.type}", place, rule="bad-default")


def is_a(kind: ParameterType, value: Any) -> bool:
    """Return whether a default or a constant has a parameter type."""
    match kind:
        case "integer":
            return isinstance(value, int) and not isinstance(value, bool)
        case "number":
            return isinstance(value, int | float) and not isinstance(value, bool)
        case "boolean":
            return isinstance(value, bool)
        case "duration":
            return isinstance(value, str) and is_duration(value)
    return isinstance(value, str)


class DisabledGuard(Strict):
    """A guard that is turned off, and the reason."""

    guard: str = Field(description="Name of the guard.")
    reason: str = Field(min_length=5, description="Why this is safe; the audit log records it.")


class Guards(Strict):
    """Settings of guards, by name. All guards are on by default. ``off`` needs a reason, and lint reports it."""

    model_config = ConfigDict(extra="allow", frozen=True)
    off: tuple[DisabledGuard, ...] = Field(default=(), description="Guards that are turned off for this playbook.")

    @property
    def settings(self) -> dict[str, Any]:
        """Return the settings of each guard that the playbook names."""
        return dict(self.model_extra or {})


class Approval(Strict):
    """Who must approve a run, and until when."""

    required: bool = Field(default=False, description="Require approval in mode auto too.")
    groups: tuple[str, ...] = Field(default=(), description="Groups whose members can approve; empty: any approver.")
    quorum: int = Field(default=1, ge=1, le=10, description="Number of distinct people who must approve.")
    expires: PositiveDuration = Field(
        default=timedelta(minutes=15), description="Time until the approval request expires and the run is escalated."
    )


With = Annotated[
    dict[str, Any],
    Field(
        default={}, alias="with", description="Parameters; ${name} is replaced by the value of a declared parameter."
    ),
]


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


class AboutAny(Strict):
    """The alert carries no label that names the target, and the author says why that is safe."""

    any: str = Field(min_length=10, description="Why no label of the alert names the target, and why that is safe.")


def _about(value: Any) -> Any:
    if value == "any":
        hint = "write about: {any: why no label of the alert names the target}"
        raise FieldError("about: any needs a reason", hint=hint)
    return value


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
    for_: Annotated[tuple[Name, ...], BeforeValidator(_as_list), _NAMES] = Field(
        default=(),
        alias="for",
        description="Causes that this step is for: IDs of conclude. A step that interrupts or destroys something runs "
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
        description="Losses that need no approval. A greater loss, or an unknown one, asks a person in every mode. "
        "Replaces single limits of the service in the inventory.",
    )
    approval: Literal["inherit", "required"] = Field(
        default="inherit", description="required: this step needs approval in mode auto too."
    )
    on_success: Literal["verify", "next", "escalate"] | Goto | None = Field(
        default=None, description="What follows on success; default: verify, or next for a read-only action."
    )
    on_failure: Literal["next", "abort", "escalate"] | Goto | None = Field(
        default=None, description="What follows if the step or its verification fails; default: next."
    )
    undo: Undo | None = Field(default=None, description="How to undo the step.")

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


class Escalate(Strict):
    """Whom to notify if the run fails. The message contains the evidence."""

    to: tuple[str, ...] = Field(default=(), description="Channels of the settings file.")
    message: str = Field(
        default="",
        description="Context for the message, such as whom to call; the service itself says what it did. Can use "
        "${PARAMETER} and ${evidence.ID.facts.NAME}.",
    )


class Playbook(Strict):
    """A tested remedy for a known fault."""

    apiVersion: Literal["remediator/v1"] = Field(description="Version of the playbook language.")
    kind: Literal["Playbook"] = Field(description="Kind of the file.")
    name: Name = Field(description="Name; the file must have the same name.")
    summary: str = Field(default="", description="What it fixes and how, in one sentence.")
    match: Match = Field(description="Which alerts start the playbook.")
    mode: Mode | dict[str, Mode] = Field(
        default="approve",
        description="observe: record only. shadow: plan, and report what it would do. approve: ask first. auto: act "
        "within the guards. Or a mapping from environment to mode, with default for the others.",
    )
    target: str = Field(description="Service of the inventory, or ${name} of a parameter of type service.")
    about: Annotated[Literal["target"] | AboutAny, BeforeValidator(_about)] = Field(
        default="target",
        description="target: act only for alerts whose labels name the target (see alerts_as in the inventory). "
        "{any: REASON}: the alert carries no such label.",
    )
    parameters: dict[Name, Parameter] = Field(default={}, description="Values from labels of the alert, and constants.")
    guards: Guards = Field(default=Guards(), description="Settings of guards; all guards are on by default.")
    approval: Approval = Field(default=Approval(), description="Who must approve, and until when.")
    diagnose: tuple[Diagnosis, ...] = Field(
        default=(), description="Evidence that is collected before the first change, for conditions and messages."
    )
    conclude: tuple[Conclusion, ...] = Field(
        default=(), description="Likely causes; messages name each one whose condition holds, in this order."
    )
    steps: tuple[Step, ...] = Field(
        default=(),
        description="Steps, in order, until verify succeeds. Without steps, the diagnosis is escalated at once.",
    )
    verify: Verify = Field(default=Verify(), description="The proof of success.")
    escalate: Escalate = Field(default=Escalate(), description="Whom to notify if the run fails.")

    _source: str = PrivateAttr(default="")

    @model_validator(mode="after")
    def _consistent(self) -> Playbook:
        raise_all((*self._duplicate_ids(), *self._wrong_gotos(), *self._wrong_causes()))
        return self

    def _duplicate_ids(self) -> Iterator[FieldError]:
        seen: dict[str, str] = {}
        for section in ("diagnose", "steps"):
            for at, item in enumerate(getattr(self, section)):
                if item.id in seen:
                    message = f"duplicate ID {item.id!r}: {seen[item.id]} has the same ID"
                    yield FieldError(message, (section, at, "id"), rule="duplicate-id")
                seen.setdefault(item.id, "a diagnosis" if section == "diagnose" else "a step")

    def _wrong_gotos(self) -> Iterator[FieldError]:
        order = [step.id for step in self.steps]
        for at, step in enumerate(self.steps):
            for arrow, goto in step.gotos:
                place = ("steps", at, arrow, "goto")
                if goto not in order:
                    hint = f"known: {', '.join(dict.fromkeys(order))}"
                    yield FieldError(f"unknown step {goto!r}", place, hint=hint, rule="unknown-step")
                elif order.index(goto) <= at:
                    message = f"goto {goto!r} goes back, but a run only moves forward"
                    yield FieldError(message, place, hint="move that step down", rule="backward-goto")

    def _wrong_causes(self) -> Iterator[FieldError]:
        known = [item.id for item in self.conclude if item.id is not None]
        for at, name in enumerate(known):
            if name in known[:at]:
                place = ("conclude", [item.id for item in self.conclude].index(name), "id")
                yield FieldError(f"duplicate ID {name!r}: another cause has the same ID", place, rule="duplicate-id")
        for at, step in enumerate(self.steps):
            for number, name in enumerate(step.for_):
                if name not in known:
                    hint = did_you_mean(name, known) or "give the conclusions an id"
                    where = ("steps", at, "for", number)
                    yield FieldError(f"unknown cause {name!r}", where, hint=hint, rule="unknown-cause")

    @property
    def about_any(self) -> str | None:
        """Return why the alert need not name the target; None if it must."""
        return self.about.any if isinstance(self.about, AboutAny) else None

    def mode_in(self, environment: str) -> Mode:
        """Return the mode in an environment; approve if the playbook sets none."""
        if isinstance(self.mode, str):
            return self.mode
        return self.mode.get(environment, self.mode.get("default", "approve"))

    @property
    def modes(self) -> frozenset[Mode]:
        """Return the modes of all environments."""
        if isinstance(self.mode, str):
            return frozenset({self.mode})
        return frozenset({*self.mode.values(), self.mode.get("default", "approve")})

    @property
    def source(self) -> str:
        """Return the file of the playbook; empty if it comes from the store. The content hash does not cover it."""
        return self._source

    @cached_property
    def content_hash(self) -> str:
        """Return the SHA-256 of the content, with fragments and defaults, without comments and the order of keys."""
        content = self.model_dump(mode="json", by_alias=True)
        canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(canonical.encode()).hexdigest()


class Include(Strict):
    """Insert the diagnoses or steps of a fragment at this place."""

    include: str = Field(description="Name of the fragment.")


class Fragment(Strict):
    """Parts that playbooks share. ``use`` merges them under a playbook, ``include`` inserts them into its lists."""

    apiVersion: Literal["remediator/v1"] = Field(description="Version of the playbook language.")
    kind: Literal["Fragment"] = Field(description="Kind of the file.")
    name: Name = Field(description="Name that playbooks refer to.")
    summary: str = Field(default="", description="Purpose of the fragment.")
    mode: Mode | dict[str, Mode] | None = Field(default=None, description="See Playbook.")
    parameters: dict[Name, Parameter] = Field(default={}, description="See Playbook.")
    guards: Guards = Field(default=Guards(), description="See Playbook.")
    approval: Approval = Field(default=Approval(), description="See Playbook.")
    diagnose: tuple[Diagnosis, ...] = Field(default=(), description="Inserted where a playbook includes the fragment.")
    steps: tuple[Step, ...] = Field(default=(), description="Inserted where a playbook includes the fragment.")
    verify: Verify = Field(default=Verify(), description="See Playbook.")
    escalate: Escalate = Field(default=Escalate(), description="See Playbook.")
