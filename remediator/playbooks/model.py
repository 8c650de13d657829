"""The model of playbooks: match → guards → approval → diagnose → steps → verify → escalate.

The JSON Schema and the documentation are generated from the descriptions of the fields.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from datetime import timedelta
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, PrivateAttr, model_validator

from remediator.core.clock import is_duration
from remediator.core.matchers import Matcher, Operator, parse_matcher
from remediator.core.types import FieldError, Pattern, PositiveDuration, Strict, raise_all
from remediator.playbooks.diagnostics import did_you_mean
from remediator.playbooks.field_types import NAMES, MatcherText, Mode, Name, ParameterType, as_list
from remediator.playbooks.steps import Conclusion, Diagnosis, Step, Verify


class Match(Strict):
    """Alerts that start the playbook. All conditions must hold."""

    alertname: Annotated[tuple[str, ...], BeforeValidator(as_list), NAMES] = Field(
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
            is_given = getattr(self, option) != type(self).model_fields[option].default
            if is_given and self.type not in types:
                hint = f"{option} is for type {' or '.join(sorted(types))}"
                yield FieldError(f"{option} is not allowed for type {self.type}", (option,), hint=hint)
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            yield FieldError(f"minimum {self.minimum:g} is greater than maximum {self.maximum:g}", ("minimum",))
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


class AboutAny(Strict):
    """The alert carries no label that names the target, and the author states why this is safe."""

    any: str = Field(
        min_length=10, description="Reason why no label of the alert names the target, and why this is safe."
    )


def _about(value: Any) -> Any:
    if value == "any":
        hint = "write about: {any: why no label of the alert names the target}"
        raise FieldError("about: any needs a reason", hint=hint)
    return value


class Escalate(Strict):
    """Whom to notify if the run fails. The message contains the evidence."""

    to: tuple[str, ...] = Field(default=(), description="Channels of the settings file.")
    message: str = Field(
        default="",
        description="Context for the message, such as a phone number; the service adds its own actions. Can use "
        "${PARAMETER} and ${evidence.ID.facts.NAME}.",
    )


class Playbook(Strict):
    """A tested remedy for a known fault."""

    apiVersion: Literal["remediator/v1"] = Field(description="Version of the playbook language.")
    kind: Literal["Playbook"] = Field(description="Kind of the file.")
    name: Name = Field(description="Name; the file must have the same name.")
    summary: str = Field(default="", description="The fault and the remedy, in one sentence.")
    match: Match = Field(description="Alerts that start the playbook.")
    mode: Mode | dict[str, Mode] = Field(
        default="approve",
        description="observe: record only. shadow: plan, and report the planned actions. approve: ask first. auto: act "
        "within the guards. Or a mapping from environment to mode, with default for other environments.",
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
        default=(), description="Likely causes; messages name each cause whose condition holds, in this order."
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
        """Return why the alert does not have to name the target; None if it must name the target."""
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
    def promql(self) -> Iterator[tuple[tuple[str | int, ...], str]]:
        """Yield the PromQL expressions of the diagnoses and proofs, each with its place in the file."""
        for at, look in enumerate(self.diagnose):
            if look.check == "promql":
                yield ("diagnose", at, "with", "query"), str(look.with_.get("query", ""))
        for at, proof in enumerate(self.verify.checks):
            if proof.check == "promql":
                yield ("verify", "checks", at, "with", "query"), str(proof.with_.get("query", ""))

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
    """Parts that playbooks share.

    ``use`` takes the values of the fragment as defaults of the playbook. ``include`` inserts the diagnoses or steps of
    the fragment into the lists of the playbook.
    """

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
