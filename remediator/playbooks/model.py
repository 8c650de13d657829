"""Playbooks as authors write them: match → guards → approval → diagnose → steps → verify → escalate.

The descriptions of the fields are the reference: the JSON Schema and the documentation are made from them.
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

Mode = Literal["observe", "shadow", "approve", "auto"]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
ParameterType = Literal["string", "integer", "number", "boolean", "duration", "service"]


def _checked(read: Callable[[str], Any], rule: str) -> Any:
    def check(text: str) -> str:
        try:
            read(text)
        except ParseError as error:
            raise FieldError(error.message, column=error.column, hint=error.hint, rule=rule) from None
        return text

    return AfterValidator(check)


def _listed(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


MatcherText = Annotated[str, _checked(parse_matcher, "bad-matcher")]
Pattern = Annotated[str, _checked(compile_pattern, "bad-pattern")]
ConditionText = Annotated[str, _checked(cel.compile, "bad-condition")]


_NAMES = WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]})


class Match(Strict):
    """Which alerts are meant. Everything that is given must hold."""

    alertname: Annotated[tuple[str, ...], BeforeValidator(_listed), _NAMES] = Field(
        default=(), description="Shorthand: one alertname, or a list of which one must be the alert's."
    )
    matchers: tuple[MatcherText, ...] = Field(
        default=(),
        description='Alertmanager matchers, such as severity="critical" or env=~"prod|demo"; all must hold. '
        "Regular expressions are RE2 and match the whole value; a label that is not there counts as empty.",
    )

    @model_validator(mode="after")
    def _something(self) -> Match:
        if not self.alertname and not self.matchers:
            raise FieldError("match says nothing, so it would take every alert", hint="give alertname or matchers")
        return self

    @cached_property
    def parsed(self) -> tuple[Matcher, ...]:
        """All conditions as matchers; a choice of alertnames is one of plain alternatives."""
        return (*self._named, *(parse_matcher(matcher) for matcher in self.matchers))

    @property
    def _named(self) -> tuple[Matcher, ...]:
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
    """A declared, validated value: the only door through which a label comes in."""

    label: str | None = Field(default=None, min_length=1, description="The alert's label that it is taken from.")
    value: Any = Field(default=None, description="Or a constant, instead of a label.")
    type: ParameterType = Field(
        default="string",
        description="What the label must hold. A service must be one of the inventory; a string has no control "
        "characters and does not begin with '-'.",
    )
    pattern: Pattern | None = Field(default=None, description="RE2; the whole of a string must match it.")
    enum: tuple[str | int | float, ...] | None = Field(default=None, min_length=1, description="The allowed values.")
    minimum: float | None = Field(default=None, description="The least number allowed.")
    maximum: float | None = Field(default=None, description="The greatest number allowed.")
    max_length: int = Field(default=200, ge=1, le=10_000, description="Most characters of a string.")
    default: Any = Field(
        default=None,
        description="Used where the alert has no such label; without a default the label is required, and an alert "
        "without it goes to people.",
    )
    description: str = Field(default="", description="What it is, for people.")

    @model_validator(mode="after")
    def _consistent(self) -> Parameter:
        raise_all(tuple(self._mistakes()))
        return self

    def _mistakes(self) -> Iterator[FieldError]:
        if (self.label is None) == (self.value is None):
            both = "both label and value are given" if self.label else "neither label nor value is given"
            yield FieldError(both, hint="take it from a label, or give a constant value")
        if self.value is not None and self.default is not None:
            yield FieldError("a constant needs no default", ("default",))
        for option, types in _OPTIONS.items():
            given = getattr(self, option) != type(self).model_fields[option].default
            if given and self.type not in types:
                hint = f"it goes with {' and '.join(sorted(types))}"
                yield FieldError(f"{option} does not go with type {self.type}", (option,), hint=hint)
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            yield FieldError(f"minimum {self.minimum:g} is more than maximum {self.maximum:g}", ("minimum",))
        yield from self._untyped()

    def _untyped(self) -> Iterator[FieldError]:
        given: list[tuple[tuple[str | int, ...], Any]] = [(("value",), self.value), (("default",), self.default)]
        given += [(("enum", at), value) for at, value in enumerate(self.enum or ())]
        article = "an" if self.type == "integer" else "a"
        for place, value in given:
            if value is not None and not is_a(self.type, value):
                yield FieldError(f"{_shown(value)} is not {article} {self.type}", place, rule="bad-default")


def is_a(kind: ParameterType, value: Any) -> bool:
    """Whether an author's own value, a default or a constant, is of a parameter type."""
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


def _shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)[:60]


class Off(Strict):
    """A guard that is switched off, and why."""

    guard: str = Field(description="The guard's id.")
    reason: str = Field(min_length=5, description="Why this is safe, for whoever reads the audit log.")


class Guards(Strict):
    """Settings by guard id. All guards are on; ``off`` needs a reason, and lint warns of it."""

    model_config = ConfigDict(extra="allow", frozen=True)
    off: tuple[Off, ...] = Field(default=(), description="Guards that are switched off for this playbook.")

    @property
    def settings(self) -> dict[str, Any]:
        """What the playbook says for each guard that it names."""
        return dict(self.model_extra or {})


class Approval(Strict):
    """Who has to agree before anything is done, and until when."""

    required: bool = Field(default=False, description="Ask even in auto mode.")
    groups: tuple[str, ...] = Field(default=(), description="Groups whose members may approve; empty: any approver.")
    quorum: int = Field(default=1, ge=1, le=10, description="How many different people must agree.")
    expires: PositiveDuration = Field(
        default=timedelta(minutes=15), description="After this long the question is void and the run goes to people."
    )


With = Annotated[
    dict[str, Any],
    Field(default={}, alias="with", description="Its parameters; ${name} stands for a declared parameter's value."),
]


class CheckCall(Strict):
    """A check with its parameters."""

    check: str = Field(description="The check's name.")
    with_: With


class Look(Strict):
    """One diagnosis: a check, or an action that only reads. Its failure never blocks anything."""

    id: Name = Field(description="Its name in conditions: evidence.<id>.")
    check: str | None = Field(default=None, description="A check's name; or action instead.")
    action: str | None = Field(default=None, description="The name of an action that only reads; or check instead.")
    service: str | None = Field(
        default=None, description="Another service of the inventory than the target: what it needs, or what needs it."
    )
    with_: With

    @model_validator(mode="after")
    def _one(self) -> Look:
        if (self.check is None) == (self.action is None):
            both = "both check and action are given" if self.check else "neither check nor action is given"
            raise FieldError(both, hint="give one of the two")
        return self


class Conclusion(Strict):
    """What the evidence points to."""

    when: ConditionText = Field(
        description="A condition in CEL over evidence.<id>.{ok,status,facts,summary}, params.<name> and "
        "target.{name,platform}. One that cannot be told points to nothing."
    )
    cause: str = Field(min_length=1, max_length=300, description="The likely cause, and where to look, for people.")


class Retry(Strict):
    """How often to try. More than once only for actions that are the same done twice as done once."""

    attempts: int = Field(default=1, ge=1, le=10, description="Tries in all.")
    backoff: Duration = Field(
        default=timedelta(seconds=5), description="Pause before the second try; doubled for each further one."
    )


class Goto(Strict):
    """Go on at a later step."""

    goto: str = Field(description="The id of a step further down.")


class Undo(Strict):
    """How a step is put back."""

    action: str | None = Field(
        default=None,
        description="The action that puts it back; default: the step's own way back, with the values that it recorded.",
    )
    with_: With
    after: PositiveDuration | None = Field(
        default=None, description="Put it back by itself after this long; without it only on failure or by a person."
    )


class Step(Strict):
    """One thing to do. A step that changed something and succeeded goes to verify; one that only read, to the next."""

    id: Name = Field(description="Its name in conditions (steps.<id>), in goto, and in the audit log.")
    name: str = Field(default="", description="A title for people.")
    action: str = Field(description="The action's name.")
    with_: With
    timeout: PositiveDuration | None = Field(default=None, description="For one try; default: the action's own.")
    retry: Retry = Field(default=Retry(), description="How often to try; only for idempotent actions.")
    when: ConditionText | None = Field(
        default=None,
        description="A condition in CEL over evidence.<id>.{ok,status,facts,summary}, steps.<id>.{status,output}, "
        "params.<name> and target.{name,platform}. Without it the step always applies.",
    )
    approval: Literal["inherit", "required"] = Field(
        default="inherit", description="required: this step needs a person, even in auto mode."
    )
    on_success: Literal["verify", "next", "escalate"] | Goto | None = Field(
        default=None, description="Where to go from here; default: verify, or next for an action that only reads."
    )
    on_failure: Literal["next", "abort", "escalate"] | Goto | None = Field(
        default=None, description="Where to go when it fails, or when verify after it does; default: next."
    )
    undo: Undo | None = Field(default=None, description="How it is put back.")

    @property
    def gotos(self) -> Iterator[tuple[str, str]]:
        """Field and id of each step that this one may jump to."""
        for arrow in ("on_success", "on_failure"):
            target = getattr(self, arrow)
            if isinstance(target, Goto):
                yield arrow, target.goto


class Verify(Strict):
    """What proves success: all checks at once, after a while, within a time. Nothing else does."""

    settle: Duration = Field(default=timedelta(seconds=5), description="Wait before the first look.")
    within: PositiveDuration = Field(
        default=timedelta(minutes=2), description="How long all checks may take to hold, counted after settling."
    )
    checks: tuple[CheckCall, ...] = Field(
        default=(), description="All must be ok at once; without any, nothing can be proved and no run succeeds."
    )


class Escalate(Strict):
    """Whom to tell when it did not work; the evidence goes along."""

    to: tuple[str, ...] = Field(default=(), description="Channels of the settings file.")
    message: str = Field(default="", description="What to say; nothing is replaced in it.")


class Playbook(Strict):
    """A known remedy for a known fault."""

    apiVersion: Literal["remediator/v1"] = Field(description="The version of this language.")
    kind: Literal["Playbook"]
    name: Name = Field(description="Its name, the same as the file's.")
    summary: str = Field(default="", description="What it heals and how, in a sentence.")
    match: Match = Field(description="Which alerts are meant.")
    mode: Mode | dict[str, Mode] = Field(
        default="approve",
        description="observe: record only; shadow: plan and say what it would do; approve: ask first; auto: act within "
        "the guards. Or a mapping from environment to one of them, with default for the others.",
    )
    target: str = Field(description="A service of the inventory, or ${name} of a parameter of type service.")
    parameters: dict[Name, Parameter] = Field(default={}, description="Values from the alert's labels, and constants.")
    guards: Guards = Field(default=Guards(), description="Settings of guards; all are on by default.")
    approval: Approval = Field(default=Approval(), description="Who has to agree, and until when.")
    diagnose: tuple[Look, ...] = Field(
        default=(), description="Collected before anything is touched; later conditions and people see it."
    )
    conclude: tuple[Conclusion, ...] = Field(
        default=(), description="Likely causes: every one whose condition holds is named to people, in this order."
    )
    steps: tuple[Step, ...] = Field(
        default=(), description="Tried in order until verify holds. Without any, people get the diagnosis at once."
    )
    verify: Verify = Field(default=Verify(), description="What proves success.")
    escalate: Escalate = Field(default=Escalate(), description="Whom to tell when it did not work.")

    _source: str = PrivateAttr(default="")

    @model_validator(mode="after")
    def _consistent(self) -> Playbook:
        raise_all((*self._doubles(), *self._jumps()))
        return self

    def _doubles(self) -> Iterator[FieldError]:
        seen: dict[str, str] = {}
        for section in ("diagnose", "steps"):
            for at, item in enumerate(getattr(self, section)):
                if item.id in seen:
                    message = f"{item.id!r} is already the id of {seen[item.id]}"
                    yield FieldError(message, (section, at, "id"), rule="duplicate-id")
                seen.setdefault(item.id, "a diagnosis" if section == "diagnose" else "a step")

    def _jumps(self) -> Iterator[FieldError]:
        order = [step.id for step in self.steps]
        for at, step in enumerate(self.steps):
            for arrow, goto in step.gotos:
                place = ("steps", at, arrow, "goto")
                if goto not in order:
                    hint = f"there are {', '.join(dict.fromkeys(order))}"
                    yield FieldError(f"there is no step {goto!r}", place, hint=hint, rule="unknown-step")
                elif order.index(goto) <= at:
                    message = f"goto {goto!r} leads back, and a run only goes forward"
                    yield FieldError(message, place, hint="put the step further down", rule="backward-goto")

    def mode_in(self, environment: str) -> Mode:
        """The rung of the ladder in an environment; where nothing is said, people are asked."""
        if isinstance(self.mode, str):
            return self.mode
        return self.mode.get(environment, self.mode.get("default", "approve"))

    @property
    def modes(self) -> frozenset[Mode]:
        """Every rung that it may stand on in some environment."""
        if isinstance(self.mode, str):
            return frozenset({self.mode})
        return frozenset({*self.mode.values(), self.mode.get("default", "approve")})

    @property
    def source(self) -> str:
        """The file that it was read from; empty for one from the store. No part of its content."""
        return self._source

    @cached_property
    def content_hash(self) -> str:
        """SHA-256 over what it says, with fragments and defaults put in: comments and order of keys do not count."""
        content = self.model_dump(mode="json", by_alias=True)
        canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(canonical.encode()).hexdigest()


class Include(Strict):
    """The diagnoses or steps of a fragment, put in at this place."""

    include: str = Field(description="The fragment's name.")


class Fragment(Strict):
    """Parts that playbooks share: deep-merged under a playbook by ``use``, put into its lists by ``include``."""

    apiVersion: Literal["remediator/v1"] = Field(description="The version of this language.")
    kind: Literal["Fragment"]
    name: Name = Field(description="The name by which playbooks ask for it.")
    summary: str = Field(default="", description="What it is for.")
    mode: Mode | dict[str, Mode] | None = Field(default=None, description="See Playbook.")
    parameters: dict[Name, Parameter] = Field(default={}, description="See Playbook.")
    guards: Guards = Field(default=Guards(), description="See Playbook.")
    approval: Approval = Field(default=Approval(), description="See Playbook.")
    diagnose: tuple[Look, ...] = Field(default=(), description="Put in where a playbook includes it.")
    steps: tuple[Step, ...] = Field(default=(), description="Put in where a playbook includes it.")
    verify: Verify = Field(default=Verify(), description="See Playbook.")
    escalate: Escalate = Field(default=Escalate(), description="See Playbook.")
