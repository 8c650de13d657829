"""The model of test files."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BeforeValidator, Field, GetJsonSchemaHandler, field_validator, model_validator

from remediator.core.alert import ALERTMANAGER
from remediator.core.cost import FIELDS
from remediator.core.types import Duration, FieldError, PositiveDuration, Strict
from remediator.extensions.platforms.base import Reason
from remediator.playbooks.diagnostics import did_you_mean
from remediator.playbooks.field_types import Mode, Name, as_list
from remediator.playbooks.inventory import Service
from remediator.playbooks.platform_bindings import Binding, KubernetesBinding
from remediator.playbooks.service_parts import JobTemplate

_ZERO = timedelta(0)


def _one(key: str, short: type = str) -> BeforeValidator:
    """Allow the value of this key instead of a list of mappings, for example ``redis.ping: ok``."""
    return BeforeValidator(lambda value: [{key: value}] if isinstance(value, short) else value)


class _OrWord:
    """Allows one of these words instead of a list, in the JSON Schema."""

    def __init__(self, *words: str) -> None:
        self._words = words

    def __get_pydantic_json_schema__(self, core: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"anyOf": [{"type": "string", "enum": list(self._words)}, handler(core)]}


_STATES = ("running", "starting", "stopped", "exited", "crash_loop", "mixed", "unknown")


class When(Strict):
    """When an entry applies: both conditions must hold. Of a list, the last entry that applies is used."""

    at: Duration = Field(default=_ZERO, description="From this time after the start of the test.")
    after: str | None = Field(default=None, description="After this action took effect.")


class CheckResponse(When):
    """The answer of a check."""

    answer: Literal["ok", "fail", "unknown"] = Field(description="Answer of the check.")
    summary: str = Field(default="", description="Summary, for messages.")
    facts: dict[str, Any] = Field(default={}, description="Values, for conditions.")
    service: str | None = Field(default=None, description="Answer only for this service.")
    with_: dict[str, Any] = Field(default={}, alias="with", description="Only with these parameters.")


class ActionResponse(When):
    """The result of an action."""

    outcome: Literal["ok", "failed", "unknown"] = Field(
        description="Result of the call; unknown: the call is not answered."
    )
    happened: Literal["yes", "no", "unknown"] = Field(
        default="unknown", description="For unknown: what a later observation finds."
    )
    summary: str = Field(default="", description="Summary, for messages.")
    output: dict[str, Any] = Field(default={}, description="Values, for conditions.")
    takes: Duration = Field(default=_ZERO, description="Duration of the call.")
    service: str | None = Field(default=None, description="Answer only for this service.")
    with_: dict[str, Any] = Field(default={}, alias="with", description="Only with these parameters.")


class CostResponse(When):
    """The cost of an action."""

    cost: dict[str, bool | int | float | Literal["unknown"]] = Field(
        description="Measured values by fact, for example unsaved_writes: 3000. unknown: it cannot be measured."
    )
    service: str | None = Field(default=None, description="Answer only for this service.")
    with_: dict[str, Any] = Field(default={}, alias="with", description="Only with these parameters.")

    @field_validator("cost")
    @classmethod
    def _known(cls, given: dict[str, Any]) -> dict[str, Any]:
        for name in given:
            if name not in FIELDS:
                hint = did_you_mean(name, FIELDS) or f"known: {', '.join(FIELDS)}"
                raise FieldError(f"unknown cost {name!r}", hint=hint)
        return given


class PlatformResponse(When):
    """The state of a service on its platform."""

    state: Literal["running", "starting", "stopped", "exited", "crash_loop", "mixed", "unknown"] = Field(
        description="State of the processes."
    )
    instances: int = Field(default=1, ge=0, description="Desired number of instances.")
    healthy: int | None = Field(
        default=None, ge=0, description="Number of healthy instances; default: all if the state is running."
    )
    facts: dict[str, Any] = Field(default={}, description="Values of service.status, for conditions.")
    reasons: tuple[Reason, ...] = Field(
        default=(), description="Reasons why instances do not serve, as the platform reports them."
    )


class TestService(Strict):
    """A service of the inventory of the test, with the keys that limit the playbooks."""

    platform: Binding | None = Field(
        default=None, description="Platform that runs the service; default: a platform that uses no label of an alert."
    )
    depends_on: tuple[str, ...] = Field(default=(), description="Services that this service needs.")
    alerts_as: dict[str, str] = Field(default={}, description=Service.model_fields["alerts_as"].description)
    alert_label_values: dict[str, Annotated[tuple[str, ...], BeforeValidator(as_list)]] = Field(
        default={}, description=Service.model_fields["alert_label_values"].description
    )
    jobs: dict[str, JobTemplate] = Field(default={}, description=Service.model_fields["jobs"].description)

    @model_validator(mode="after")
    def _jobs_run_somewhere(self) -> TestService:
        if self.jobs and not isinstance(self.platform, KubernetesBinding):
            raise FieldError("jobs need a platform", ("jobs",), hint="add platform: {kind: kubernetes, …} beside jobs")
        return self


class TestAlert(Strict):
    """An alert of the test."""

    labels: dict[str, str] = Field(description="Labels, including alertname.")
    annotations: dict[str, str] = Field(default={}, description="Annotations, for messages.")
    at: Duration = Field(default=_ZERO, description="When the alert starts to fire, after the start of the test.")
    until: Duration | None = Field(default=None, description="When the alert is resolved; default: never.")
    about_target: bool = Field(
        default=True,
        description="Add the labels of the target if no label names anything; false: do not change the labels.",
    )
    silenced: bool = Field(default=False, description="Alertmanager silences the alert.")
    source: Name = Field(default=ALERTMANAGER, description="Source that sends the alert, for example grafana.")
    confirmed: bool = Field(
        default=True,
        description="The source reports that the alert still fires. false: the source has no such API, like a source "
        "of kind json.",
    )


class Person(Strict):
    """The decision of a person on an approval request."""

    decide: Literal["approve", "reject", "snooze"] = Field(description="Decision.")
    by: str = Field(default="ann", min_length=1, description="Name of the person; a quorum counts distinct names.")
    after: Duration = Field(default=timedelta(seconds=30), description="Time from the request to the decision.")


class Stop(Strict):
    """A global stop during the test."""

    at: Duration = Field(default=_ZERO, description="When the stop is created, after the start of the test.")
    reason: str = Field(default="test", description="Reason of the stop.")


class Message(Strict):
    """An expected message."""

    kind: str | None = Field(default=None, description="Kind, for example approval or escalation.")
    to: str | None = Field(default=None, description="Channel.")
    contains: str = Field(default="", description="Part of the text.")


class Expect(Strict):
    """The expected result. Keys that are left out are not compared."""

    matches: tuple[str, ...] | None = Field(
        default=None, description="Playbooks that match the alerts; []: no playbook matches."
    )
    outcome: str | None = Field(default=None, description="Final status of the run; none: no run exists.")
    reason: str | None = Field(default=None, description="Reason of the status.")
    mode: Mode | None = Field(default=None, description="Mode of the run.")
    plan: tuple[str, ...] | None = Field(default=None, description="Steps of the plan, in order.")
    calls: dict[str, str] = Field(
        default={},
        description="Call of a step with its resolved parameters, for example redis.memory_purge redis (dry=true).",
    )
    undone: tuple[str, ...] | None = Field(
        default=None, description="Steps that were undone, in order; scheduled undos need lasts."
    )
    steps: dict[str, Literal["ok", "failed", "unknown"]] | None = Field(
        default=None, description="All steps that ran, in order, each with its last outcome; {}: no step ran."
    )
    skipped: tuple[str, ...] | None = Field(
        default=None, description="Steps that were skipped because their condition did not hold."
    )
    evidence: dict[str, Literal["ok", "fail", "failed", "unknown"]] = Field(
        default={}, description="Evidence of the diagnoses, by ID."
    )
    guards: dict[str, Literal["allow", "block", "unknown"]] = Field(
        default={}, description="Strongest answer of each guard: block, then unknown, then allow."
    )
    causes: tuple[str, ...] | None = Field(
        default=None, description="ID, or a part of the text, of each likely cause, in order; []: no cause."
    )
    messages: tuple[Message, ...] = Field(default=(), description="Each must be among the messages that were sent.")
    runs: int | None = Field(default=None, ge=0, description="Number of runs.")
    within: PositiveDuration | None = Field(
        default=None, description="Maximum time from the first alert to the end of the run."
    )


class Given(Strict):
    """The environment of a test."""

    checks: Mapping[str, Annotated[tuple[CheckResponse, ...], _one("answer"), _OrWord("ok", "fail", "unknown")]] = (
        Field(default={}, description="Answers of checks, by name; default: unknown.")
    )
    queries: Mapping[str, Annotated[tuple[CheckResponse, ...], _one("answer"), _OrWord("ok", "fail", "unknown")]] = (
        Field(default={}, description="Answers of the check promql, by a part of the query.")
    )
    actions: Mapping[
        str, Annotated[tuple[ActionResponse, ...], _one("outcome"), _OrWord("ok", "failed", "unknown")]
    ] = Field(
        default={},
        description="Results of actions, by name; default: ok, and unknown for read-only actions.",
    )
    costs: Mapping[str, Annotated[tuple[CostResponse, ...], _one("cost", dict)]] = Field(
        default={}, description="Costs of actions, by name; default: no cost."
    )
    platform: Mapping[str, Annotated[tuple[PlatformResponse, ...], _one("state"), _OrWord(*_STATES)]] = Field(
        default={}, description="State of services, by name; default: running."
    )


class Case(Given):
    """One test."""

    name: str = Field(min_length=1, description="Name of the test, in words.")
    start: Annotated[datetime, AwareDatetime] | None = Field(
        default=None, description="Date and time of the start, for freeze windows; default: a Thursday at midnight UTC."
    )
    lasts: PositiveDuration | None = Field(
        default=None, description="Duration of the test; default: until every run has ended, at most 30 minutes."
    )
    mode: Mode | None = Field(default=None, description="Mode, instead of the mode of the playbook.")
    watchdog: bool = Field(default=True, description="Whether the Watchdog alert arrives.")
    alerts: tuple[TestAlert, ...] = Field(min_length=1, description="Alerts of the test.")
    people: tuple[Person, ...] = Field(default=(), description="Decisions on approval requests, in order.")
    stops: tuple[Stop, ...] = Field(default=(), description="Global stops during the test.")
    expect: Expect = Field(description="Expected result.")


class Suite(Strict):
    """A test file of one playbook."""

    apiVersion: Literal["remediator/v1"] = Field(description="Version of the test format.")
    kind: Literal["PlaybookTest"] = Field(description="Kind of the file.")
    playbook: Name = Field(description="Name of the playbook; its file is in the same folder.")
    environment: str = Field(default="test", description="Environment; it selects the mode.")
    services: dict[str, TestService] = Field(
        default={}, description="Inventory; it always contains the target of the playbook."
    )
    given: Given = Field(default=Given(), description="Environment of all tests; a test can override each entry.")
    tests: tuple[Case, ...] = Field(description="Tests.")

    def merged(self, case: Case) -> Case:
        """Return a test with the environment of all tests merged."""
        merged = {name: {**getattr(self.given, name), **getattr(case, name)} for name in Given.model_fields}
        return case.model_copy(update=merged)
