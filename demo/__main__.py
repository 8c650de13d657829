"""``python -m demo``: start the stack, inject each fault, and show how it is fixed.

Environment: FAULT=<alert> shows one fault, KEEP=1 leaves the stack running, CRASH_REMEDIATOR=1 kills the remediator in
the middle of each run.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from demo import changed, refusals
from demo.faults import FAULTS, Fault
from demo.probe import Probe
from demo.refusals import Refusal
from demo.show import Follower, Outcome
from demo.stack import processes, programs
from demo.stack.__main__ import urls
from demo.stack.settings import ROOT, Settings, StackError, from_environment
from remediator.core.clock import format_duration


@dataclass(frozen=True)
class Wish:
    """The settings from the environment."""

    faults: list[Fault]
    refusals: bool
    keep: bool
    crash: bool

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Wish:
        """Read FAULT, KEEP and CRASH_REMEDIATOR.

        Raises:
            StackError: the fault in FAULT does not exist.
        """
        name = environment.get("FAULT", "")
        keep, crash = (environment.get(flag, "") not in ("", "0") for flag in ("KEEP", "CRASH_REMEDIATOR"))
        return cls(chosen(name), refusals=not name and not crash, keep=keep, crash=crash)


def main(environment: Mapping[str, str]) -> int:
    """Return the exit status: 0 all faults fixed, 1 not all fixed or the stack cannot run, 2 wrong usage."""
    console = Console(width=None if sys.stdout.isatty() else 140)
    try:
        wish = Wish.from_environment(environment)
    except StackError as error:
        _complain(console, error)
        return 2
    try:
        return _demonstrate(from_environment(environment), console, wish)
    except StackError as error:
        _complain(console, error)
    except KeyboardInterrupt:
        console.print("interrupted", style="red")
    return 1


def _complain(console: Console, error: StackError) -> None:
    console.print(escape(str(error)), style="red", highlight=False, soft_wrap=True)


def chosen(name: str) -> list[Fault]:
    """Return the faults with this name or alert; all faults if the name is empty.

    Raises:
        StackError: no fault has this name or alert.
    """
    found = [fault for fault in FAULTS if name in ("", fault.ALERT, fault.NAME)]
    if not found:
        known = ", ".join(sorted({fault.ALERT for fault in FAULTS} | {fault.NAME for fault in FAULTS}))
        raise StackError(f"unknown fault {name!r}; known faults: {known}")
    return found


def _demonstrate(settings: Settings, console: Console, wish: Wish) -> int:
    programs.ensure()  # first, so that a missing program is reported before anything starts
    ours = not processes.running(settings)
    keep = wish.keep or not ours
    begun = time.monotonic()
    outcomes: list[Outcome] = []
    refused: list[Refusal] = []
    try:
        probe = _begin(settings, console)
        with changed.settings(probe, _short_watch(settings)):
            _wait_for_all(probe, console)
            for fault in wish.faults:
                if (why := fault.needs(probe)) is not None:
                    console.print(f"{fault.NAME} is skipped: {why}\n", style="yellow", highlight=False)
                    continue
                outcomes.append(_one(probe, console, fault, crash=wish.crash))
                _record(console, settings, outcomes[-1])
            if wish.refusals:
                refused = refusals.show(probe, console)
    finally:
        if outcomes:
            _report(console, settings, outcomes, seconds=time.monotonic() - begun)
        if not keep:
            processes.down(settings)
            console.print("stopped; no process of the stack is left", highlight=False)
    if refused:
        console.print(refusals.table(refused))
    if keep:
        _tell_how_to_go_on(console, settings)
    well = all(outcome.well for outcome in outcomes) and all(refusal.well for refusal in refused)
    return 0 if well else 1


def _begin(settings: Settings, console: Console) -> Probe:
    probe = Probe(settings)
    if not processes.running(settings):
        processes.forget(settings)  # limits and circuit breakers of an earlier demo would block this one
    text = "redis, exporters, app, nginx, Prometheus, Alertmanager and the remediator"
    console.print(f"[bold]starting[/bold] {text} …", highlight=False)
    with console.status("starting"):
        processes.up(settings)
    return probe


def _short_watch(settings: Settings) -> dict[str, Any]:
    """Return settings that make successive faults separate incidents, and no recurrences."""
    window = format_duration(changed.RECURRENCE_WINDOW)
    timing = yaml.safe_load(settings.remediator_yaml.read_text())["timing"]
    return {"timing": {**timing, "recurrence_window": window, "incident_window": window}}


def _wait_for_all(probe: Probe, console: Console) -> None:
    with console.status("waiting") as status:
        for ready, what in (
            (probe.targets_up, "all targets of Prometheus to be up"),
            (probe.watchdog_heard, "the Watchdog alert to reach the remediator"),
            (probe.traffic_flows, "traffic through nginx to be counted"),
        ):
            status.update(f"waiting for {what}")
            processes.wait(ready, what, 120)
    console.print("all up: Prometheus scrapes every target, traffic flows, the Watchdog alert reaches the remediator\n")


def _one(probe: Probe, console: Console, fault: Fault, *, crash: bool) -> Outcome:
    processes.wait(
        lambda: probe.at_rest(fault.ALERT) and probe.unwatched(fault.ALERT, changed.RECURRENCE_WINDOW),
        f"the end of earlier alerts and runs before {fault.NAME}",
        420,
    )
    console.rule(fault.NAME, align="left")
    outcome = Follower(probe, console, fault, crash=crash).follow()
    console.print()
    return outcome


def _record(console: Console, settings: Settings, outcome: Outcome) -> None:
    if not outcome.run_id:
        return
    console.print("[bold]audit log of this run[/bold]")
    argv = [sys.executable, "-m", "remediator", "audit", "search", "--run", outcome.run_id]
    argv += ["--db", str(settings.database)]
    told = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=ROOT)
    for line in (told.stdout or told.stderr).splitlines():
        console.print(escape(line), highlight=False, style="dim", overflow="ellipsis", no_wrap=True)
    console.print()


def _report(console: Console, settings: Settings, outcomes: list[Outcome], *, seconds: float) -> None:
    table = Table(title=f"Faults and results ({seconds:.0f} s)", title_justify="left")
    for column in ("fault", "alert", "detected after", "healed after", "steps", "proof", "run"):
        table.add_column(column, overflow="fold")
    for outcome in outcomes:
        problem = outcome.problem()
        table.add_row(
            outcome.fault.NAME,
            outcome.fault.ALERT,
            _seconds(outcome.detected),
            f"[red]NOT HEALED: {escape(problem)}[/red]" if problem else _seconds(outcome.healed),
            "\n".join(outcome.steps) or "none",
            outcome.proof or "none",
            outcome.run_id or "none",
        )
    console.print(table)
    command = shutil.which("remediator", path=os.path.dirname(sys.executable)) or "remediator"
    for label, text in (
        ("show a run", shlex.join((command, "run", "show", "RUN", "--config", str(settings.remediator_yaml)))),
        ("verify the audit log", shlex.join((command, "audit", "verify", "--config", str(settings.remediator_yaml)))),
        ("logs", f"{settings.state}/logs"),
    ):
        console.print(f"{label + ':':18} {text}", highlight=False, soft_wrap=True, markup=False)


def _tell_how_to_go_on(console: Console, settings: Settings) -> None:
    state = "" if settings.state == ROOT / "state" else f" STATE={shlex.quote(str(settings.state))}"
    text = f"\nthe stack is still running; stop it with 'make down{state}'\n{urls(settings)}"
    console.print(text, highlight=False, soft_wrap=True, markup=False)


def _seconds(length: float | None) -> str:
    return "never" if length is None else f"{length:.1f} s"


if __name__ == "__main__":
    sys.exit(main(os.environ))
