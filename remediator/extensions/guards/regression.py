"""``regression``: end a run when one of its steps makes a signal worse."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Literal

from pydantic import Field, model_validator

from remediator.core.clock import format_duration
from remediator.core.types import Duration, Strict
from remediator.extensions.checks.base import CheckAnswer
from remediator.extensions.guards.base import ALLOW, Guard, GuardAnswer, GuardInput, Phase, Settings, Verdict
from remediator.playbooks import references


class Signal(Strict):
    """A value that must not get worse, for example an error rate or a latency."""

    promql: str = Field(description="Expression that returns one value. ${parameters} are replaced.")
    worse: Literal["higher", "lower"] = Field(default="higher", description="Which direction is worse.")
    factor: float = Field(default=1.5, gt=1, description="A change by more than this factor is worse.")
    margin: float = Field(default=0.0, ge=0, description="The difference must also be larger than this.")
    max_age: Duration = Field(default=timedelta(minutes=1), description="Older data is not used.")


class RegressionSettings(Settings):
    """The signals. A plain list sets ``watch``."""

    watch: tuple[Signal, ...] = Field(
        default=(), description="Signals that are measured before each step and after it."
    )

    @model_validator(mode="before")
    @classmethod
    def _plain(cls, value: Any) -> Any:
        return {"watch": value} if isinstance(value, list | tuple) else value


class Regression(Guard):
    """Compares each signal before and after a step. Unknown if it cannot be measured before the step."""

    name = "regression"
    reasons = frozenset({"worse", "not_measured"})
    Settings = RegressionSettings

    async def evaluate_live(self, guard_input: GuardInput) -> Verdict:
        if guard_input.phase is Phase.PLAN or not guard_input.settings.watch:
            return ALLOW
        values: dict[str, float] = {}
        for signal in guard_input.settings.watch:
            value, why = await _measure(guard_input, signal)
            if value is None:
                text = f"{signal.promql} cannot be measured, so a regression would not be detected: {why}"
                return Verdict(GuardAnswer.UNKNOWN, "not_measured", text, {"signal": signal.promql})
            values[signal.promql] = value
        return Verdict(GuardAnswer.ALLOW, inputs={"before": values})

    async def check_regression(self, guard_input: GuardInput, before: Mapping[str, Any]) -> Verdict:
        noted: Mapping[str, float] = before.get("before", {})
        for signal in guard_input.settings.watch:
            if signal.promql not in noted:
                continue
            value, why = await _measure(guard_input, signal)
            if value is None:
                return Verdict(GuardAnswer.UNKNOWN, "not_measured", f"{signal.promql} cannot be measured: {why}")
            was = noted[signal.promql]
            if signal.worse == "higher":
                worse = value > was * signal.factor and value - was > signal.margin
            else:
                worse = value < was / signal.factor and was - value > signal.margin
            if worse:
                return Verdict(
                    GuardAnswer.BLOCK,
                    "worse",
                    f"{signal.promql} got worse: {was:g} before the step, {value:g} after it",
                    {"signal": signal.promql, "before": was, "after": value, "factor": signal.factor},
                )
        return ALLOW


async def _measure(guard_input: GuardInput, signal: Signal) -> tuple[float | None, str]:
    """Return the current value of the signal, or None and the reason: no data, old data or several series."""
    values = {} if guard_input.run.plan is None else guard_input.run.plan.parameters
    query = references.substitute(signal.promql, values, promql=True)
    seen = await guard_input.view.check("promql", {"query": query, "max_age": format_duration(signal.max_age)})
    samples = seen.facts.get("samples", [])
    if seen.answer is CheckAnswer.UNKNOWN:
        return None, seen.summary
    if len(samples) != 1:
        return None, f"the expression returned {len(samples)} values instead of one"
    value = float(samples[0]["value"])
    return (None, "the value is not a number") if value != value else (value, "")
