"""Follow one fault from injection to proof, and print each event on a line."""

from __future__ import annotations

import signal
import time
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.status import Status

from demo.faults import Fault
from demo.probe import Probe

PATIENCE = 240.0
"""Timeout in seconds for healing a fault."""
LOOK = 0.1
OVER = frozenset({"succeeded", "failed", "escalated", "cancelled"})


@dataclass
class Outcome:
    """The result of one fault. Times are seconds since its injection."""

    fault: Fault
    detected: float | None = None
    healed: float | None = None
    ended: float | None = None
    """When the alert ended in Alertmanager."""
    status: str = ""
    run_id: str = ""
    steps: list[str] = field(default_factory=list)
    proof: str = ""
    wrong: list[str] = field(default_factory=list)
    """Broken promises that were found."""

    @property
    def well(self) -> bool:
        """Return whether the fault is fixed and this was proved."""
        return not self.problem()

    def problem(self) -> str:
        """Return why the result is not a proved fix, empty if it is."""
        for missing, text in (
            (self.detected is None, f"{self.fault.ALERT} did not fire"),
            (not self.run_id, "the remediator started no run"),
            (self.healed is None, "our own check does not see it healed"),
            (self.status != "succeeded", f"the run is {self.status or 'unknown'}"),
            (self.ended is None, f"{self.fault.ALERT} still fires"),
        ):
            if missing:
                return text
        return "; ".join(self.wrong)


class Follower:
    """The progress of one fault, with checks that do not rely on the remediator."""

    def __init__(self, probe: Probe, console: Console, fault: Fault, *, crash: bool) -> None:
        self._probe = probe
        self._console = console
        self._outcome = Outcome(fault)
        self._crash = crash
        self._killed = 0
        self._told = 0
        self._begun = 0.0
        self._redis = ""

    def follow(self) -> Outcome:
        """Inject the fault and follow it until everything is proved or the timeout."""
        fault, outcome = self._outcome.fault, self._outcome
        known = {run["id"] for run in self._probe.runs(fault.ALERT)}
        starts = self._probe.starts(fault.STARTED_ONCE) if fault.STARTED_ONCE else 0
        self._begun = time.monotonic()
        self._say(f"[bold]{fault.TELLS}[/bold]")
        fault.inject(self._probe)
        with self._console.status("") as status:
            while self._since() < PATIENCE and not self._finished():
                self._look(known)
                self._show(status)
                time.sleep(LOOK)
        self._conclude(starts)
        return outcome

    def _finished(self) -> bool:
        outcome = self._outcome
        proved = outcome.healed is not None or not outcome.steps
        return proved and outcome.status in OVER and outcome.ended is not None

    def _look(self, known: set[str]) -> None:
        outcome, alert = self._outcome, self._outcome.fault.ALERT
        firing = self._probe.firing(alert)
        if outcome.detected is None and firing:
            outcome.detected = self._since()
            self._say(f"{alert} fires in Alertmanager")
        if not outcome.run_id:
            outcome.run_id = next((run["id"] for run in self._probe.runs(alert) if run["id"] not in known), "")
        run = self._probe.run(outcome.run_id) if outcome.run_id else None
        if run is not None:
            self._tell(run)
        if outcome.steps and outcome.healed is None:
            self._prove()
        if outcome.detected is not None and not firing and outcome.ended is None:
            outcome.ended = self._since()
            self._say(f"{alert} has ended in Alertmanager")

    def _prove(self) -> None:
        outcome = self._outcome
        proof = outcome.fault.healed(self._probe)
        if proof is not None:
            outcome.healed, outcome.proof = self._since(), proof
            self._redis = self._probe.redis_run_id()
            self._say(f"[green]healed, checked independently:[/green] {proof}")

    def _tell(self, run: dict[str, Any]) -> None:
        outcome = self._outcome
        for event in run["timeline"][self._told :]:
            self._say(f"remediator: {escape(event['text'][:160])}", event["kind"])
        self._told = len(run["timeline"])
        outcome.status = str(run["status"])
        outcome.steps = [f"{step['action']}: {step['outcome'] or 'started'}" for step in run["steps"]]
        if self._crash and not self._killed and run["steps"] and outcome.status in ("running", "verifying"):
            self._killed = self._probe.signal("remediator", signal.SIGKILL)
            self._say("[red]kill -9 of the remediator in the middle of the run[/red]; supervisord starts it again")

    def _conclude(self, starts: int) -> None:
        """Check once at the end that no action was repeated."""
        outcome, program = self._outcome, self._outcome.fault.STARTED_ONCE
        if program is not None and outcome.healed is not None:
            more = self._probe.starts(program) - starts
            self._check(more == 1, f"supervisord started {program} {more} times, not once")
        if outcome.healed is not None:
            self._put_back()
        if self._redis:
            self._check(self._probe.redis_run_id() == self._redis, "Redis was restarted after it was healed")
        if self._crash:
            again = self._killed and self._probe.pid("remediator") not in (0, self._killed)
            self._check(bool(again), "the remediator was not killed and restarted in the middle")
        if not outcome.wrong and outcome.healed is not None:
            once = f"{program} was started once" if program is not None else ""
            survived = "the remediator was killed in the middle and continued" if self._crash else ""
            outcome.proof = ", ".join(filter(None, (outcome.proof, once, survived)))

    def _put_back(self) -> None:
        """Check that a temporary measure is undone automatically."""
        over = getattr(self._outcome.fault, "over", None)
        if over is None:
            return
        self._say("waiting until the temporary measure is undone")
        until = time.monotonic() + PATIENCE
        while not (told := over(self._probe)) and time.monotonic() < until:
            time.sleep(LOOK)
        self._check(bool(told), "the temporary measure is still in force")
        if told:
            self._outcome.proof += f", {told}"
            self._say(f"[green]checked independently:[/green] {told}")

    def _check(self, holds: bool, otherwise: str) -> None:
        if not holds:
            self._outcome.wrong.append(otherwise)
            self._say(f"[red]{otherwise}[/red]")

    def _show(self, status: Status) -> None:
        """Show the current wait, at a terminal only."""
        outcome = self._outcome
        if outcome.detected is None:
            doing = "waiting for the alert"
        elif not outcome.run_id:
            doing = "waiting for a run of the remediator"
        elif outcome.status not in OVER:
            doing = f"the remediator: {outcome.status.replace('_', ' ')}"
        else:
            doing = "waiting for the end of the alert"
        status.update(f"{self._since():6.1f} s  {doing}")

    def _since(self) -> float:
        return time.monotonic() - self._begun

    def _say(self, text: str, kind: str = "") -> None:
        style = "dim" if kind in ("evidence", "guard.verdict") else None
        self._console.print(f"  {self._since():6.1f} s  {text}", style=style, highlight=False)
