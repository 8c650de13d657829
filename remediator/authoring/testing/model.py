"""What a test file says."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BeforeValidator, Field, GetJsonSchemaHandler

from remediator.core.types import Duration, PositiveDuration, Strict
from remediator.playbooks.model import Mode, Name

_NOTHING = timedelta(0)


def _one_answer(value: Any) -> Any:
    return [{"answer": value}] if isinstance(value, str) else value


def _one_outcome(value: Any) -> Any:
    return [{"outcome": value}] if isinstance(value, str) else value


def _one_state(value: Any) -> Any:
    return [{"state": value}] if isinstance(value, str) else value


class _OrAWord:
    """In the schema: instead of a list, one of these words."""

    def __init__(self, *words: str) -> None:
        self._words = words

    def __get_pydantic_json_schema__(self, core: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"anyOf": [{"type": "string", "enum": list(self._words)}, handler(core)]}


_STATES = ("running", "starting", "stopped", "exited", "crash_loop", "mixed", "unknown")


class When(Strict):
    """From when on something is so: both must hold. The last entry of a list that holds is the one that counts."""

    at: Duration = Field(default=_NOTHING, description="So long after the test's start.")
    after: str | None = Field(default=None, description="Once this action has taken effect.")


class CheckResponse(When):
    """What a check answers."""

    answer: Literal["ok", "fail", "unknown"] = Field(description="unknown: it cannot be told.")
    summary: str = Field(default="", description="What it says to people.")
    facts: dict[str, Any] = Field(default={}, description="Its values, for conditions.")
    service: str | None = Field(default=None, description="Only if this service is asked about.")
    with_: dict[str, Any] = Field(default={}, alias="with", description="Only if it is asked with these values.")


class ActionResponse(When):
    """What an action does."""

    outcome: Literal["ok", "failed", "unknown"] = Field(
        description="unknown: it was called, and nobody can tell whether it happened."
    )
    happened: Literal["yes", "no", "unknown"] = Field(
        default="unknown", description="For unknown: what looking at the target says afterwards."
    )
    summary: str = Field(default="", description="What it says to people.")
    output: dict[str, Any] = Field(default={}, description="Its values, for conditions.")
    takes: Duration = Field(default=_NOTHING, description="How long the call takes.")
    service: str | None = Field(default=None, description="Only for this service.")
    with_: dict[str, Any] = Field(default={}, alias="with", description="Only if it is called with these values.")


class PlatformResponse(When):
    """What the platform says of a service."""

    state: Literal["running", "starting", "stopped", "exited", "crash_loop", "mixed", "unknown"] = Field(
        description="What its processes do."
    )
    instances: int = Field(default=1, ge=0, description="How many there should be.")
    healthy: int | None = Field(default=None, ge=0, description="How many are well; default: all if it runs.")


class TestService(Strict):
    """A service of the test's inventory."""

    depends_on: tuple[str, ...] = Field(default=(), description="The services that it needs.")


class TestAlert(Strict):
    """An alert that fires."""

    labels: dict[str, str] = Field(description="With alertname.")
    annotations: dict[str, str] = Field(default={}, description="For people.")
    at: Duration = Field(default=_NOTHING, description="It begins to fire so long after the test's start.")
    until: Duration | None = Field(default=None, description="It is resolved so long after the start; default: never.")
    silenced: bool = Field(default=False, description="Alertmanager holds it back.")


class Person(Strict):
    """What a person says when asked."""

    decide: Literal["approve", "reject", "snooze"] = Field(description="Their word.")
    by: str = Field(default="ann", min_length=1, description="Their name; a quorum takes distinct ones.")
    after: Duration = Field(default=timedelta(seconds=30), description="So long after the request was made.")


class Stop(Strict):
    """The stop button, pressed during the test."""

    at: Duration = Field(default=_NOTHING, description="So long after the start.")
    reason: str = Field(default="test", description="Why.")


class Message(Strict):
    """A message that people get."""

    kind: str | None = Field(default=None, description="approval, escalation…")
    to: str | None = Field(default=None, description="The channel.")
    contains: str = Field(default="", description="A piece of what it says.")


class Expect(Strict):
    """What must come of it. What is not said is not looked at."""

    matches: tuple[str, ...] | None = Field(
        default=None, description="The playbooks that take the alerts; [] for none."
    )
    outcome: str | None = Field(default=None, description="The run's status in the end; none: there is no run.")
    reason: str | None = Field(default=None, description="Why it is in that status.")
    mode: Mode | None = Field(default=None, description="The rung of the ladder on which it ran.")
    plan: tuple[str, ...] | None = Field(default=None, description="The steps of the plan, in order.")
    calls: dict[str, str] = Field(
        default={}, description="The call of a step with its resolved values: redis.memory_purge redis (dry=true)."
    )
    undone: tuple[str, ...] | None = Field(
        default=None, description="The steps that were put back, in order; say how long the test lasts."
    )
    steps: dict[str, Literal["ok", "failed", "unknown"]] | None = Field(
        default=None, description="The steps that were done, in order, each with its last outcome. All others were not."
    )
    skipped: tuple[str, ...] | None = Field(default=None, description="Steps whose condition did not hold.")
    evidence: dict[str, Literal["ok", "fail", "failed", "unknown"]] = Field(
        default={}, description="What was seen in the diagnosis, by id."
    )
    guards: dict[str, Literal["allow", "block", "unknown"]] = Field(
        default={}, description="The strongest verdict of a guard: block before unknown before allow."
    )
    causes: tuple[str, ...] | None = Field(
        default=None, description="A piece of each likely cause that is named, in order; [] for none."
    )
    messages: tuple[Message, ...] = Field(default=(), description="Each must be among those that were sent.")
    runs: int | None = Field(default=None, ge=0, description="How many runs there are.")
    within: PositiveDuration | None = Field(default=None, description="The run is over so long after the first alert.")


class Given(Strict):
    """What the world says and does."""

    checks: Mapping[
        str, Annotated[tuple[CheckResponse, ...], BeforeValidator(_one_answer), _OrAWord("ok", "fail", "unknown")]
    ] = Field(default={}, description="What each check answers. One that is not named cannot be told.")
    queries: Mapping[
        str, Annotated[tuple[CheckResponse, ...], BeforeValidator(_one_answer), _OrAWord("ok", "fail", "unknown")]
    ] = Field(default={}, description="What the check promql answers, by a piece of the query.")
    actions: Mapping[
        str, Annotated[tuple[ActionResponse, ...], BeforeValidator(_one_outcome), _OrAWord("ok", "failed", "unknown")]
    ] = Field(
        default={},
        description="What each action does. One that is not named succeeds; if it only reads, it cannot be told.",
    )
    platform: Mapping[str, Annotated[tuple[PlatformResponse, ...], BeforeValidator(_one_state), _OrAWord(*_STATES)]] = (
        Field(default={}, description="What the platform says of a service; default: running.")
    )


class Case(Given):
    """One test."""

    name: str = Field(min_length=1, description="What is shown, in words.")
    start: Annotated[datetime, AwareDatetime] | None = Field(
        default=None, description="When it is, for freeze windows; default: a Thursday at midnight UTC."
    )
    lasts: PositiveDuration | None = Field(
        default=None, description="Play so long; default: until every run is over, at most half an hour."
    )
    mode: Mode | None = Field(default=None, description="Another mode than the playbook's.")
    watchdog: bool = Field(default=True, description="Whether the Watchdog is heard.")
    alerts: tuple[TestAlert, ...] = Field(min_length=1, description="What fires.")
    people: tuple[Person, ...] = Field(default=(), description="Who says what when asked, in turn.")
    stops: tuple[Stop, ...] = Field(default=(), description="When the stop button is pressed.")
    expect: Expect = Field(description="What must come of it.")


class Suite(Strict):
    """A file of tests of one playbook."""

    apiVersion: Literal["remediator/v1"] = Field(description="The version of this language.")
    kind: Literal["PlaybookTest"]
    playbook: Name = Field(description="The playbook's name; its file is in the same folder.")
    environment: str = Field(default="test", description="Selects the mode.")
    services: dict[str, TestService] = Field(
        default={}, description="The inventory; the playbook's target is always in it."
    )
    given: Given = Field(default=Given(), description="What is so in every test that does not say otherwise.")
    tests: tuple[Case, ...] = Field(description="The tests.")

    def filled(self, case: Case) -> Case:
        """A test with what is given for all."""
        merged = {name: {**getattr(self.given, name), **getattr(case, name)} for name in Given.model_fields}
        return case.model_copy(update=merged)
