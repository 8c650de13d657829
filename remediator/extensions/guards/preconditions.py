"""``preconditions``: what has to be true now, by PromQL or probe, or the remedy is not for this fault."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Literal

from pydantic import Field, model_validator

from remediator.core.clock import format_duration
from remediator.core.types import Duration, Strict
from remediator.extensions.checks.base import CheckAnswer as Seen
from remediator.extensions.checks.base import Evidence
from remediator.extensions.clientset import ClientSet
from remediator.extensions.guards.base import ALLOW, Guard, GuardAnswer, GuardInput, Settings, Verdict
from remediator.playbooks import parameters


class Precondition(Strict):
    """One condition: a PromQL expression that holds on fresh data, or a check with the answer that it has to give."""

    promql: str | None = Field(default=None, description='Such as redis_up{job="x"} == 0; ${parameters} are filled in.')
    max_age: Duration = Field(default=timedelta(minutes=1), description="Data older than this cannot tell.")
    check: str | None = Field(default=None, description="Or a check, by name.")
    with_: dict[str, Any] = Field(default={}, alias="with", description="Its parameters.")
    expect: Literal["ok", "fail"] = Field(default="ok", description="What it has to answer.")

    @model_validator(mode="after")
    def _one(self) -> Precondition:
        if (self.promql is None) == (self.check is None):
            raise ValueError("a precondition is either promql or check")
        return self

    @property
    def title(self) -> str:
        """The condition, for people."""
        what = self.promql if self.promql is not None else f"{self.check} is {self.expect}"
        return what if self.expect == "ok" or self.promql is None else f"not {what}"


class PreconditionsSettings(Settings):
    """All have to hold; a plain list in YAML."""

    all_of: tuple[Precondition, ...] = Field(default=(), description="The conditions.")

    @model_validator(mode="before")
    @classmethod
    def _plain(cls, value: Any) -> Any:
        return {"all_of": value} if isinstance(value, list | tuple) else value


class Preconditions(Guard):
    """Blocks if one does not hold; unknown if one cannot be told, since no data is not *no*."""

    name = "preconditions"
    reasons = frozenset({"not_met", "no_data"})
    Settings = PreconditionsSettings

    def __init__(self, world: ClientSet) -> None:
        """It looks through the question's sight, by the same checks that prove success."""

    async def ask(self, question: GuardInput) -> Verdict:
        for condition in question.settings.all_of:
            seen = await _look(question, condition)
            inputs = {"condition": condition.title, "seen": seen.summary, **seen.facts}
            if seen.answer is Seen.UNKNOWN:
                return Verdict(
                    GuardAnswer.UNKNOWN, "no_data", f"precondition {condition.title}? {seen.summary}", inputs
                )
            if seen.answer.value != condition.expect:
                text = f"precondition {condition.title} is not met: {seen.summary}"
                return Verdict(GuardAnswer.BLOCK, "not_met", text, inputs)
        return ALLOW


async def _look(question: GuardInput, condition: Precondition) -> Evidence:
    values = (question.run.plan or {}).get("parameters", {})
    if condition.check is not None:
        given = parameters.substitute_all(condition.with_, values, promql=condition.check == "promql")
        return await question.sight.check(condition.check, given)
    query = parameters.substitute(condition.promql, values, promql=True)
    return await question.sight.check("promql", {"query": query, "max_age": format_duration(condition.max_age)})
