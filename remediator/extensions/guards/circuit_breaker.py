"""``circuit_breaker``: ask for approval when a playbook keeps failing, or when its fixes do not last."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from pydantic import Field, field_validator
from sqlalchemy import Connection

from remediator.audit import Kind
from remediator.core.clock import format_duration
from remediator.core.message import MessageKind
from remediator.core.text import join_names
from remediator.core.types import Duration
from remediator.extensions.guards._rates import parse_rate
from remediator.extensions.guards.base import (
    ALLOW,
    Guard,
    GuardAnswer,
    GuardInput,
    RunSummary,
    Settings,
    Verdict,
    clock_time,
)
from remediator.storage import Tx
from remediator.storage.repositories import autonomy, breakers, outbox, run_results, runs
from remediator.storage.repositories.breakers import OpenBreaker
from remediator.storage.repositories.run_results import RunResult

_LOOKBACK = timedelta(days=7)


class CircuitBreakerSettings(Settings):
    """When the circuit breaker opens, and when one run may try again."""

    failures: int = Field(
        default=3, ge=1, description="Open after this many runs in a row that acted and did not heal, over all targets."
    )
    ineffective: str = Field(
        default="3/6h", description="Open when one target was healed this often in this time, for example 3/6h."
    )
    half_open_after: Duration | None = Field(
        default=timedelta(hours=1),
        description="Let one run try this long after the last failure; null: only a person resets it.",
    )
    demote_after: str = Field(
        default="2/7d", description="Lower the mode to approve when the circuit breaker opened this often in this time."
    )

    @field_validator("ineffective", "demote_after")
    @classmethod
    def _rate(cls, rate: str) -> str:
        parse_rate(rate)
        return rate


class CircuitBreaker(Guard):
    """Asks for approval while the circuit breaker is open.

    While it is half open, one run tries and all other runs wait.
    """

    name = "circuit_breaker"
    reasons = frozenset({"failing", "ineffective", "trial_running"})
    same_for_all_steps = True
    passing_reasons = frozenset({"trial_running"})
    Settings = CircuitBreakerSettings
    waits_for_runs = True

    def lookback(self, settings: CircuitBreakerSettings) -> timedelta:
        return _LOOKBACK

    def evaluate_stored(self, connection: Connection, guard_input: GuardInput) -> Verdict:
        playbook, target = guard_input.playbook.name, guard_input.service.name
        opened = _state(connection, playbook, target, guard_input.settings, guard_input.now)
        if opened is None:
            return ALLOW
        half = opened.half_open_at
        if half is None or guard_input.now < half:
            until = "until a person resets it" if half is None else f"until {clock_time(half, guard_input.now)}"
            inputs: dict[str, Any] = {
                "scope": opened.scope,
                "runs": list(opened.runs),
                "opened": opened.at.isoformat(),
                "half_open": None if half is None else half.isoformat(),
            }
            text = f"{_why(playbook, opened, guard_input.settings)}; approval needed {until}"
            return Verdict(GuardAnswer.UNKNOWN, opened.why, text, inputs, half)
        trial = run_results.find_acting(connection, playbook, half, guard_input.run.id)
        if trial is None:
            return ALLOW
        text = f"circuit breaker of {playbook} is half open: waiting for the result of run {trial.id}"
        return Verdict(GuardAnswer.BLOCK, "trial_running", text, {"run": trial.id})

    def on_run_finished(self, tx: Tx, summary: RunSummary) -> None:
        """Notify when this run opened the circuit breaker. Lower the mode when it opens too often."""
        settings: CircuitBreakerSettings = summary.settings
        run, playbook = summary.run, summary.playbook.name
        opened = _state(tx.connection, playbook, run.target, settings, tx.now)
        if opened is None or run.id not in opened.runs:
            return
        trips = breakers.trip(tx, playbook, opened)
        data = {"why": opened.why, "runs": list(opened.runs), "scope": opened.scope}
        tx.append_audit(runs.draft(Kind.CIRCUIT_BREAKER_TRIPPED, run, summary.actor, data, opened.why))
        text = f"{_why(playbook, opened, settings)}; every further run asks for approval"
        count, length = parse_rate(settings.demote_after)
        if (
            sum(1 for at in trips if at > tx.now - length) >= count
            and autonomy.lower_mode("approve", run.mode) != run.mode
        ):
            reason = f"circuit breaker opened {count} times in {format_duration(length)}"
            autonomy.set_mode(tx, playbook, "approve", summary.written_mode, summary.actor, reason)
            text += f"; {reason}: the mode is now approve, and only a person can raise it"
        content = {"guard": self.name, "text": text, "playbook": playbook, "target": run.target, **data}
        outbox.enqueue(tx, summary.ids, MessageKind.NOTICE, run, content, summary.playbook.escalate.to)


def _state(
    connection: Connection, playbook: str, target: str, settings: CircuitBreakerSettings, now: datetime
) -> OpenBreaker | None:
    """Return the open circuit breaker, or None if it is closed. The results of runs are its only state."""
    reset = breakers.reset_at(connection, playbook)
    since = max(now - _LOOKBACK, reset) if reset else now - _LOOKBACK
    count, length = parse_rate(settings.ineffective)
    failed, healed = run_results.list_latest(connection, playbook, since, target, (settings.failures, count))
    if len(failed) >= settings.failures:
        wait, at = settings.half_open_after, _end(failed[-1])
        return OpenBreaker(
            "failing", "playbook", tuple(run.id for run in failed), at, None if wait is None else at + wait
        )
    if len(healed) >= count and _end(healed[0]) > now - length:
        half_open = None if settings.half_open_after is None else _end(healed[0]) + length
        return OpenBreaker("ineffective", target, tuple(run.id for run in healed), _end(healed[-1]), half_open)
    return None


def _end(run: RunResult) -> datetime:
    return run.ended or run.began


def _why(playbook: str, opened: OpenBreaker, settings: CircuitBreakerSettings) -> str:
    runs_text = join_names(opened.runs)
    if opened.why == "failing":
        return f"circuit breaker of {playbook} open: {settings.failures} runs in a row did not heal ({runs_text})"
    count, length = parse_rate(settings.ineffective)
    return (
        f"circuit breaker of {playbook} open: {opened.scope} was healed {count} times in {format_duration(length)} "
        f"and failed again ({runs_text})"
    )
