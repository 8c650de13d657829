"""``error.rate``: Check the share of errors among the responses of a service, from Prometheus.

The evidence lists the status codes and routes of the errors.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from pydantic import Field

from remediator.core.clock import format_duration
from remediator.core.types import Duration
from remediator.extensions.checks.base import Check, CheckAnswer, Evidence
from remediator.extensions.parameters import Parameters
from remediator.playbooks.facts import Fact
from remediator.playbooks.inventory import Service


class ErrorRateParameters(Parameters):
    """Parameters of ``error.rate``."""

    max_ratio: float = Field(default=0.05, ge=0, le=1, description="A larger share of errors fails.")
    window: Duration = Field(default=timedelta(minutes=1), description="Time window of the rate.")
    minimum: float = Field(
        default=0.1, ge=0, description="With fewer responses per second than this, the answer is unknown."
    )
    metric: str = Field(
        default="http_request_duration_seconds_count",
        pattern="^[a-zA-Z_:][a-zA-Z0-9_:]*$",
        description="Name of the counter.",
    )
    job: str = Field(
        default="fastapi-app", pattern="^[A-Za-z0-9_./-]+$", description="Value of the counter's job label."
    )


class ErrorRate(Check):
    """Compare the share of 5xx responses with a limit. With too few responses, the answer is unknown."""

    name = "error.rate"
    Parameters = ErrorRateParameters
    uses_prometheus = True
    facts = (
        Fact("ratio", "number", "Share of errors among all responses, from 0 to 1."),
        Fact("rate", "number", "Responses.", unit="1/s"),
        Fact("by", "list", "The most frequent errors: route, status and rate."),
        Fact("overloaded", "number", "Share of status 503 among the errors, from 0 to 1."),
    )

    async def observe(self, service: Service, parameters: ErrorRateParameters) -> Evidence:
        prometheus, window = self.clients.required_prometheus(), format_duration(parameters.window)
        counter = f'{parameters.metric}{{job="{parameters.job}"'
        responses = (await prometheus.query(f"sum(rate({counter}}}[{window}]))")).samples
        found = await prometheus.query(f'sum by (route, status) (rate({counter},status=~"5.."}}[{window}])) > 0')
        errors = [
            ({"route": sample.labels.get("route", "?"), "status": sample.labels.get("status", "?")}, sample.value)
            for sample in found.samples
        ]
        errors.sort(key=lambda item: -item[1])
        total, failed = sum(sample.value for sample in responses), sum(rate for _, rate in errors)
        if not responses or total < parameters.minimum:
            return Evidence(CheckAnswer.UNKNOWN, f"{service.name} has too few responses for a rate", {"rate": total})
        ratio = failed / total
        facts: dict[str, Any] = {
            "ratio": round(ratio, 4),
            "rate": round(total, 3),
            "by": [{**labels, "rate": round(rate, 3)} for labels, rate in errors[:10]],
            "overloaded": round(
                sum(rate for labels, rate in errors if labels["status"] == "503") / max(failed, 1e-9), 3
            ),
        }
        where = ", ".join(f"{labels['status']} at {labels['route']}" for labels, _ in errors[:3])
        text = f"{ratio:.1%} of {total:.1f} responses per second are errors" + (f": {where}" if where else "")
        return Evidence(CheckAnswer.OK if ratio <= parameters.max_ratio else CheckAnswer.FAIL, text, facts)
