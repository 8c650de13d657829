"""Following one fault from injection to proof, told line by line."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console

from deploy.local.demo.faults import Fault
from deploy.local.demo.probe import Probe

PATIENCE = 120.0
"""Seconds in which a fault has to be healed."""
LOOK = 0.1


@dataclass
class Outcome:
    """What became of one fault; times in seconds from its injection."""

    fault: Fault
    detected: float | None = None
    healed: float | None = None
    steps: list[str] = field(default_factory=list)
    proof: str = ""
    run_id: str = ""
    status: str = ""
    restarts: int = 0
    """How often the attempt was made, by the remediator's own record."""

    @property
    def well(self) -> bool:
        """Healed, by our own eyes, and the run says so too."""
        return self.healed is not None and self.status == "succeeded"


class Follower:
    """Follows one fault."""

    def __init__(self, probe: Probe, console: Console, fault: Fault, *, crash: bool) -> None:
        self._probe = probe
        self._console = console
        self._crash = crash
        self._outcome = Outcome(fault)
        self._told = 0
        self._begun = 0.0

    def follow(self) -> Outcome:
        """Inject, watch, and return when all is proved or patience ends."""
        fault, outcome = self._outcome.fault, self._outcome
        known = {run["id"] for run in self._probe.runs()}
        self._begun = time.monotonic()
        self._say(f"[bold]{fault.TELLS}[/bold]")
        fault.inject(self._probe)
        while time.monotonic() - self._begun < PATIENCE and not self._finished():
            self._look(known)
            time.sleep(LOOK)
        outcome.status = self._status()
        run = self._probe.run(outcome.run_id) if outcome.run_id else None
        if run is not None:
            self._tell(run)
        return outcome

    def _finished(self) -> bool:
        over = self._status() in ("succeeded", "failed", "escalated", "cancelled")
        return over and self._outcome.healed is not None and not self._probe.firing(self._outcome.fault.ALERT)

    def _status(self) -> str:
        run = self._probe.run(self._outcome.run_id) if self._outcome.run_id else None
        return self._outcome.status if run is None else str(run["status"])

    def _look(self, known: set[str]) -> None:
        outcome = self._outcome
        if outcome.detected is None and self._probe.firing(outcome.fault.ALERT):
            outcome.detected = self._since()
            self._say(f"{outcome.fault.ALERT} fires in Alertmanager")
        if not outcome.run_id:
            outcome.run_id = next((run["id"] for run in self._probe.runs() if run["id"] not in known), "")
        run = self._probe.run(outcome.run_id) if outcome.run_id else None
        if run is not None:
            self._tell(run)
        if outcome.detected is not None and outcome.healed is None and self._touched(run):
            self._prove()

    def _touched(self, run: dict[str, Any] | None) -> bool:
        return run is not None and bool(run["steps"])

    def _prove(self) -> None:
        proof = self._outcome.fault.healed(self._probe)
        if proof is not None:
            self._outcome.healed = self._since()
            self._outcome.proof = proof
            self._say(f"[green]healed, seen by ourselves:[/green] {proof}")

    def _tell(self, run: dict[str, Any]) -> None:
        for event in run["timeline"][self._told :]:
            self._say(f"remediator: {event['text'][:160]}", event["kind"])
        self._told = len(run["timeline"])
        self._outcome.steps = [f"{step['action']}: {step['outcome'] or 'begun'}" for step in run["steps"]]
        self._outcome.restarts = len(run["steps"])
        if self._crash and run["steps"] and run["status"] in ("running", "verifying"):
            self._crash = False
            self._say("[red]kill -9 of the remediator, in the middle of it[/red]")
            os.kill(self._probe.pid("remediator"), signal.SIGKILL)

    def _since(self) -> float:
        return time.monotonic() - self._begun

    def _say(self, text: str, kind: str = "") -> None:
        style = "dim" if kind in ("evidence", "guard.verdict") else ""
        self._console.print(f"  {self._since():6.1f} s  {text}", style=style, highlight=False)
