"""``promql``: Check that a PromQL expression holds on fresh data. Without data the answer is *unknown*, never
*fail*.

A comparison, for example ``up{job="x"} == 1``, holds if it is true for any series. To require all series, use
``min(up) == 1``. Without a comparison, no value may be 0.
"""

from __future__ import annotations

from datetime import timedelta
from math import isnan
from typing import Any

from pydantic import Field

from remediator.clients.prometheus.promql import is_comparison
from remediator.core.clock import format_duration, rfc3339
from remediator.core.types import Duration
from remediator.extensions.checks.base import Check, CheckAnswer, Evidence
from remediator.extensions.parameters import Parameters
from remediator.playbooks.facts import Fact
from remediator.playbooks.inventory import Service


class PromqlParameters(Parameters):
    """Parameters of ``promql``."""

    query: str = Field(description="PromQL expression.")
    max_age: Duration = Field(
        default=timedelta(minutes=1), description="With data older than this, the answer is unknown."
    )


class Promql(Check):
    """Evaluate a PromQL expression."""

    name = "promql"
    Parameters = PromqlParameters
    uses_prometheus = True
    facts = (
        Fact("query", "string", "Evaluated expression."),
        Fact("samples", "list", "The first 10 series: labels and value."),
        Fact("measured", "list", "Time of the newest sample of each selector; null without data."),
    )

    async def observe(self, service: Service, parameters: PromqlParameters) -> Evidence:
        prometheus = self.clients.required_prometheus()
        vector = await prometheus.query(parameters.query)
        fresh = await prometheus.freshness(parameters.query)
        samples = [{"labels": item.labels, "value": item.value} for item in vector.samples[:10]]
        facts: dict[str, Any] = {"query": parameters.query, "samples": samples}
        now = self.clients.clock.now()
        oldest = [item.newest for item in fresh]
        stale = [
            item.selector for item, at in zip(fresh, oldest, strict=True) if at is None or now - at > parameters.max_age
        ]
        facts["measured"] = [None if at is None else rfc3339(at) for at in oldest]
        if stale:
            age = format_duration(parameters.max_age)
            return Evidence(CheckAnswer.UNKNOWN, f"no data from the last {age} for {', '.join(stale)}", facts)
        values, compares = [item.value for item in vector.samples], is_comparison(parameters.query)
        if not compares and any(map(isnan, values)):
            return Evidence(CheckAnswer.UNKNOWN, f"{parameters.query} is not a number", facts)
        if values and (compares or all(values)):
            return Evidence(CheckAnswer.OK, f"{parameters.query} holds", facts)
        return Evidence(CheckAnswer.FAIL, f"{parameters.query} does not hold", facts)
