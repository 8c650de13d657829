"""``regression``: a watched signal, measured before a step and after it; worse than before, and the run ends."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Literal

from pydantic import Field, model_validator

from remediator.core.clock import format_duration
from remediator.core.types import Duration, Strict
from remediator.extensions.checks.base import CheckAnswer as Seen
from remediator.extensions.clientset import ClientSet
from remediator.extensions.guards.base import ALLOW, Guard, GuardAnswer, GuardInput, Phase, Settings, Verdict
from remediator.playbooks import parameters


class Signal(Strict):
    """A number that must not get worse: an error rate, a latency, the requests that are served."""

    promql: str = Field(description="An expression with one value; ${parameters} are filled in.")
    worse: Literal["higher", "lower"] = Field(default="higher", description="Which way is worse.")
    factor: float = Field(default=1.5, gt=1, description="So many times the value before is worse.")
    margin: float = Field(default=0.0, ge=0, description="And it has to differ by more than this.")
    max_age: Duration = Field(default=timedelta(minutes=1), description="Data older than this cannot tell.")


class RegressionSettings(Settings):
    """What is watched; a plain list in YAML."""

    watch: tuple[Signal, ...] = Field(default=(), description="The signals.")

    @model_validator(mode="before")
    @classmethod
    def _plain(cls, value: Any) -> Any:
        return {"watch": value} if isinstance(value, list | tuple) else value


class Regression(Guard):
    """Before a step it notes the signals (unknown if they cannot be measured); after it, it compares."""

    name = "regression"
    reasons = frozenset({"worse", "not_measured"})
    Settings = RegressionSettings

    def __init__(self, world: ClientSet) -> None:
        """It looks through the question's sight."""

    async def ask(self, question: GuardInput) -> Verdict:
        if question.moment is Phase.PLAN or not question.settings.watch:
            return ALLOW
        values: dict[str, float] = {}
        for signal in question.settings.watch:
            value, why = await _measure(question, signal)
            if value is None:
                text = f"{signal.promql} cannot be measured, so whether it gets worse could not be told: {why}"
                return Verdict(GuardAnswer.UNKNOWN, "not_measured", text, {"signal": signal.promql})
            values[signal.promql] = value
        return Verdict(GuardAnswer.ALLOW, inputs={"before": values})

    async def harm(self, question: GuardInput, before: Mapping[str, Any]) -> Verdict:
        noted: Mapping[str, float] = before.get("before", {})
        for signal in question.settings.watch:
            if signal.promql not in noted:
                continue
            value, why = await _measure(question, signal)
            if value is None:
                return Verdict(GuardAnswer.UNKNOWN, "not_measured", f"{signal.promql} cannot be measured: {why}")
            was = noted[signal.promql]
            if _worse(signal, was, value):
                return Verdict(
                    GuardAnswer.BLOCK,
                    "worse",
                    f"got worse: {signal.promql} is {value:g}, it was {was:g} before the step",
                    {"signal": signal.promql, "before": was, "after": value, "factor": signal.factor},
                )
        return ALLOW


def _worse(signal: Signal, before: float, after: float) -> bool:
    if signal.worse == "higher":
        return after > before * signal.factor and after - before > signal.margin
    return after < before / signal.factor and before - after > signal.margin


async def _measure(question: GuardInput, signal: Signal) -> tuple[float | None, str]:
    """The signal's value now, or None and why: no data, old data, more than one series."""
    values = (question.run.plan or {}).get("parameters", {})
    query = parameters.substitute(signal.promql, values, promql=True)
    seen = await question.sight.check("promql", {"query": query, "max_age": format_duration(signal.max_age)})
    samples = seen.facts.get("samples", [])
    if seen.answer is Seen.UNKNOWN:
        return None, seen.summary
    if len(samples) != 1:
        return None, f"it has {len(samples)} values, not one"
    value = float(samples[0]["value"])
    return (None, "it is not a number") if value != value else (value, "")
