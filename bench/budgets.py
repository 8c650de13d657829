"""The goals of speed and size with their values before, and the table that compares both with the present values."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

BEFORE = "66cc8840 of 2026-11-29"
"""The version and the day of the values *before*. They were measured on two quiet cores by one run of the suite."""

Results = Mapping[str, Any]
"""The figures of each bench, by its name."""


@dataclass(frozen=True, slots=True)
class Budget:
    """One goal of speed or size."""

    what: str
    bench: str
    goal: float
    value: Callable[[Any], float]
    """Returns the value from the result of the bench."""
    before: float | None
    meets: Callable[[float, float], bool] = operator.le
    """Compares a value with the goal: at most, or at least."""

    def row(self, results: Results) -> str:
        """Return the row of the table."""
        sign = "≥" if self.meets is operator.ge else "≤"
        before = "not measured" if self.before is None else f"{self.before:,g}"
        try:
            now = self.value(results[self.bench])
            met = "yes" if self.meets(float(now), self.goal) else "**no**"
            shown = f"{now:,g}"
        except (KeyError, TypeError, ValueError):  # the bench did not run or skipped this value
            met, shown = "", "not measured"
        return f"| {self.what} | {sign} {self.goal:,g} | {before} | {shown} | {met} |"


def _slowest_page(found: Any) -> float:
    return max(float(page["ratio"]) for page in found["pages"].values())


BUDGETS = (
    Budget(
        "durable ingest, times the rate of a bare Starlette endpoint",
        "ingest",
        0.9,
        lambda found: found["rate_to_bare"],
        0.82,
        operator.ge,
    ),
    Budget(
        "durable ingest, times the rate of `webhook` running `/bin/true`",
        "ingest",
        5,
        lambda found: found["rate_to_webhook"],
        5.55,
        operator.ge,
    ),
    Budget(
        "durable ingest, p99 times that of a bare Starlette endpoint",
        "ingest",
        3,
        lambda found: found["p99_to_bare"],
        None,
    ),
    Budget(
        "2xx to the first byte of the action, times `webhook` running `curl`",
        "recovery",
        1.3,
        lambda found: found["to_webhook_and_curl"],
        1.98,
    ),
    Budget(
        "own share of recovery, times `webhook` running `curl`",
        "recovery",
        3,
        lambda found: found["own_share_to_webhook_and_curl"],
        2.91,
    ),
    Budget(
        "complete runs a second at 400 at once, times DBOS on SQLite",
        "throughput",
        2,
        lambda found: found["rate_to_dbos"],
        None,
        operator.ge,
    ),
    Budget(
        "the same on PostgreSQL at 200 at once",
        "postgres",
        1.5,
        lambda found: found["rate_to_dbos"],
        None,
        operator.ge,
    ),
    Budget(
        "round trips to PostgreSQL from the 2xx to the action",
        "postgres",
        5,
        lambda found: found["acknowledged_to_action_round_trips"],
        None,
    ),
    Budget(
        "work of all guards with 10,000 actions, times that with 100",
        "growth",
        1.1,
        lambda found: found["all_guards_many_to_few"],
        1.65,
    ),
    Budget("storm of 10,000 alerts: answers with 5xx", "recovery", 0, lambda found: found["storm_5xx"], 0),
    Budget(
        "storm of 10,000 alerts: seconds until all is over", "recovery", 10, lambda found: found["storm_over_s"], 66.6
    ),
    Budget(
        "matching with 10,000 playbooks, µs an alert",
        "match",
        50,
        lambda found: max(shape["us_many"] for shape in found["shapes"].values()),
        8.87,
    ),
    Budget(
        "matching with 10,000 playbooks, times that with 10",
        "match",
        1.5,
        lambda found: max(shape["ratio"] for shape in found["shapes"].values()),
        None,
    ),
    Budget(
        "matching with 10,000 discovered services, times that with 10",
        "discovery",
        1.1,
        lambda found: found["matching_ratio"],
        None,
    ),
    Budget(
        "intake with 10,000 discovered services, times that with 10",
        "discovery",
        1.1,
        lambda found: found["intake_ratio"],
        None,
    ),
    Budget(
        "resident memory with 10,000 discovered services, times that with 10",
        "discovery",
        1.2,
        lambda found: found["rss_ratio"],
        None,
    ),
    Budget(
        "audit entries verified with `--strict`, a second and core",
        "audit",
        300_000,
        lambda found: found["verified_strictly_per_s"],
        277_134,
        operator.ge,
    ),
    Budget(
        "audit append at 2^24 entries, times that at 2^10",
        "audit",
        1.1,
        lambda found: found["append_2^24_over_2^10"],
        1.039,
    ),
    Budget("idle: resident memory, MB", "footprint", 80, lambda found: found["rss_mb"], 109.7),
    Budget("idle: processor time, %", "footprint", 1, lambda found: found["idle_cpu_percent"], 1.33),
    Budget("start until ready, s", "footprint", 0.8, lambda found: found["ready_s"], 1.65),
    Budget("`--help`, ms", "footprint", 100, lambda found: found["help_ms"], 62),
    Budget("slowest console page with 1,000,000 runs, times that with 10,000", "console", 1.5, _slowest_page, 1.11),
    Budget("report of 90 days with 1,000 alerts a day, s", "report", 10, lambda found: found["report_s"], None),
    Budget(
        "backtest of 90 days with 1,000 alerts a day, s", "backtest", 10, lambda found: found["s_for_90_days"], None
    ),
    Budget(
        "simulated schedules a second and core",
        "simulation",
        20,
        lambda found: found["schedules_per_cpu_second"],
        6.0,
        operator.ge,
    ),
)


def table(results: Results) -> list[str]:
    """Return the lines of the table of goals."""
    head = ["| what | goal | before | now | met |", "|---|---|---|---|---|"]
    return [f"*Before* is {BEFORE}.", "", *head, *(budget.row(results) for budget in BUDGETS), ""]
