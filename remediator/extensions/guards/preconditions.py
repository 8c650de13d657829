"""``preconditions``: conditions that must hold before the playbook may act."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Literal

from pydantic import Field, model_validator

from remediator.core.clock import format_duration
from remediator.core.types import Duration, Strict
from remediator.extensions.checks.base import CheckAnswer
from remediator.extensions.guards.base import ALLOW, Guard, GuardAnswer, GuardInput, Settings, Verdict
from remediator.playbooks import references


class Precondition(Strict):
    """One condition: either a PromQL expression or a check."""

    promql: str | None = Field(
        default=None,
        description="Expression that must hold on fresh data, for example redis_up == 0. ${parameters} are replaced.",
    )
    max_age: Duration = Field(default=timedelta(minutes=1), description="Older data gives the answer unknown.")
    check: str | None = Field(default=None, description="Name of a check, instead of promql.")
    with_: dict[str, Any] = Field(default={}, alias="with", description="Parameters of the check.")
    expect: Literal["ok", "fail"] = Field(default="ok", description="The answer that the check must give.")

    @model_validator(mode="after")
    def _one(self) -> Precondition:
        if (self.promql is None) == (self.check is None):
            raise ValueError("a precondition has exactly one of promql and check")
        return self

    @property
    def title(self) -> str:
        """The condition as text for messages."""
        what = self.promql if self.promql is not None else f"{self.check} is {self.expect}"
        return what if self.expect == "ok" or self.promql is None else f"not {what}"


class PreconditionsSettings(Settings):
    """All conditions must hold. A plain list sets ``all_of``."""

    all_of: tuple[Precondition, ...] = Field(default=(), description="The conditions.")

    @model_validator(mode="before")
    @classmethod
    def _plain(cls, value: Any) -> Any:
        return {"all_of": value} if isinstance(value, list | tuple) else value


class Preconditions(Guard):
    """Blocks if a condition does not hold. Unknown if there is no answer: missing data is not a *no*."""

    name = "preconditions"
    reasons = frozenset({"not_met", "no_data"})
    Settings = PreconditionsSettings

    async def evaluate_live(self, guard_input: GuardInput) -> Verdict:
        values = {} if guard_input.run.plan is None else guard_input.run.plan.parameters
        for condition in guard_input.settings.all_of:
            if condition.check is not None:
                given = references.substitute_all(condition.with_, values, promql=condition.check == "promql")
                seen = await guard_input.view.check(condition.check, given)
            else:
                query = references.substitute(condition.promql, values, promql=True)
                given = {"query": query, "max_age": format_duration(condition.max_age)}
                seen = await guard_input.view.check("promql", given)
            inputs = {"condition": condition.title, "seen": seen.summary, **seen.facts}
            if seen.answer is CheckAnswer.UNKNOWN:
                return Verdict(
                    GuardAnswer.UNKNOWN, "no_data", f"precondition {condition.title} is unknown: {seen.summary}", inputs
                )
            if seen.answer.value != condition.expect:
                text = f"precondition {condition.title} is not met: {seen.summary}"
                return Verdict(GuardAnswer.BLOCK, "not_met", text, inputs)
        return ALLOW
