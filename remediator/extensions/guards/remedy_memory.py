"""``remedy_memory``: ask a person before the service repeats a remedy that did not help on this target."""

from __future__ import annotations

from datetime import timedelta

from pydantic import Field
from sqlalchemy import Connection

from remediator.core.clock import format_duration
from remediator.core.plan import PlannedStep
from remediator.core.run import Reason
from remediator.core.run_detail import RunningDetail
from remediator.core.types import Duration
from remediator.extensions.guards.base import ALLOW, Guard, GuardAnswer, GuardInput, Settings, Verdict, clock_time
from remediator.storage.repositories import remedy_memory


class RemedyMemorySettings(Settings):
    """Retention of the memory of remedies that did not help."""

    within: Duration = Field(
        default=timedelta(hours=24),
        description="A remedy that did not help within this time needs an approval; 0s: never.",
    )

    def off(self) -> str:
        return "" if self.within else "its within is 0s"


class RemedyMemory(Guard):
    """Ask a person about a remedy that did not help on this target within ``within``."""

    name = "remedy_memory"
    reasons = frozenset({"did_not_help"})
    Settings = RemedyMemorySettings

    def evaluate_stored(self, connection: Connection, guard_input: GuardInput) -> Verdict:
        within: timedelta = guard_input.settings.within
        steps = _undecided_steps(guard_input)
        if not within or not steps:
            return ALLOW
        run = guard_input.run
        keys = {remedy_memory.remedy_key(step, guard_input.causes): step for step in steps}
        found = remedy_memory.find_remedies(connection, run, keys, guard_input.now - within)
        # If an automatic plan has another remedy left, that remedy may still run.
        if not found or (guard_input.step is None and run.mode == "auto" and len(found) < len(keys)):
            return ALLOW
        key, entry = max(found.items(), key=lambda item: item[1].at)
        text = (
            f"step {keys[key].id} ({keys[key].action}) did not help {entry.target} at "
            f"{clock_time(entry.at, guard_input.now)} (run {entry.run_id}): {entry.reason}; "
            f"to allow it again: remediator memory clear {entry.id}"
        )
        inputs = {"entry": entry.id, "run": entry.run_id, "at": entry.at.isoformat(), "within": format_duration(within)}
        return Verdict(GuardAnswer.UNKNOWN, "did_not_help", text, inputs)


def _undecided_steps(guard_input: GuardInput) -> list[PlannedStep]:
    """Return the steps to look up: the next step, or all mutating steps when the whole plan is evaluated.

    A step that a person has just approved is decided. Before each step of a run in mode ``approve`` a person saw the
    plan with its notes.
    """
    step, run = guard_input.step, guard_input.run
    if step is None:
        steps = () if run.plan is None else run.plan.steps
        return [each for each in steps if each.mutates and not each.call.infeasible_reason]
    if run.mode != "auto":
        return []
    detail = run.detail
    approved = run.reason is Reason.APPROVED and isinstance(detail, RunningDetail) and detail.step in (None, step.id)
    return [] if approved else [step]
