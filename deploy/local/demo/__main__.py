"""``python -m deploy.local.demo``: FAULT=<alert> for one, KEEP=1 keeps it up, CRASH_REMEDIATOR=1 is cruel."""

from __future__ import annotations

import os
import subprocess
import sys
import time

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from deploy.local import stack
from deploy.local.__main__ import urls
from deploy.local.demo import refusals
from deploy.local.demo.faults import FAULTS, Fault
from deploy.local.demo.probe import Probe
from deploy.local.demo.show import Follower, Outcome
from deploy.local.settings import ROOT, Settings, StackError, from_environment


def main() -> int:
    """0 if every fault was healed, 1 if not or the stack cannot run, 2 for wrong usage."""
    console = Console(width=None if sys.stdout.isatty() else 140)
    keep = os.environ.get("KEEP", "") not in ("", "0")
    try:
        faults = _chosen(os.environ.get("FAULT", ""))
    except StackError as error:
        console.print(str(error), style="red", highlight=False)
        return 2
    try:
        settings = from_environment()
    except StackError as error:
        console.print(str(error), style="red", highlight=False)
        return 1
    ours = not stack.running(settings)
    try:
        outcomes = _run(settings, console, faults)
        refused = [] if os.environ.get("FAULT") else refusals.show(Probe(settings), console)
    except (StackError, KeyboardInterrupt) as error:
        console.print(escape(str(error)) or "interrupted", style="red", highlight=False)
        return 1
    finally:
        if ours and not keep:
            stack.down(settings)
    _report(console, settings, outcomes, keep=keep or not ours)
    if refused:
        console.print(refusals.table(refused))
    return 0 if outcomes and all(item.well for item in (*outcomes, *refused)) else 1


def _chosen(name: str) -> list[Fault]:
    chosen = [fault for fault in FAULTS if name in ("", fault.ALERT, fault.NAME)]
    if not chosen:
        known = ", ".join(sorted({fault.ALERT for fault in FAULTS} | {fault.NAME for fault in FAULTS}))
        raise StackError(f"there is no fault {name!r}; there are: {known}")
    return chosen


def _run(settings: Settings, console: Console, faults: list[Fault]) -> list[Outcome]:
    probe = Probe(settings)
    console.print("[bold]starting[/bold] redis, exporters, app, nginx, Prometheus, Alertmanager and the remediator …")
    if not stack.running(settings):
        stack.forget(settings)  # yesterday's budgets and breakers would, rightly, have their say
    stack.up(settings)
    stack.wait(probe.targets_up, "all of Prometheus' targets", 60)
    stack.wait(probe.watchdog_heard, "the Watchdog alert at the remediator", 60)
    console.print("all up: Prometheus scrapes every target, and the Watchdog alert has come through\n", highlight=False)
    crash = os.environ.get("CRASH_REMEDIATOR", "") not in ("", "0")
    outcomes = []
    for fault in faults:
        _quiet(probe, fault)
        console.rule(f"{fault.NAME}", align="left")
        outcomes.append(Follower(probe, console, fault, crash=crash).follow())
        console.print()
        _record(console, settings, outcomes[-1])
    return outcomes


def _quiet(probe: Probe, fault: Fault) -> None:
    """Begin from rest: the alert is over, and so is the quiet time after the last incident."""

    def rest() -> bool:
        return not probe.firing(fault.ALERT) and all(run["finished_at"] for run in probe.runs())

    stack.wait(rest, f"rest before {fault.NAME}", 120)
    if probe.runs():
        time.sleep(5)  # quiet time of the demonstration's settings, and a little more


def _record(console: Console, settings: Settings, outcome: Outcome) -> None:
    if not outcome.run_id:
        return
    console.print("[bold]audit log of this run[/bold]")
    argv = [sys.executable, "-m", "remediator", "audit", "search", "--run", outcome.run_id]
    argv += ["--db", str(settings.remediator_yaml.with_name("remediator.db"))]
    told = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=ROOT)
    for line in (told.stdout or told.stderr).splitlines():
        console.print(escape(line[:200]), highlight=False, style="dim", overflow="ellipsis", no_wrap=True)
    console.print()


def _report(console: Console, settings: Settings, outcomes: list[Outcome], *, keep: bool) -> None:
    table = Table(title="What was broken, and what became of it", title_justify="left")
    for column in ("fault", "alert", "detected after", "healed after", "steps", "proof", "run"):
        table.add_column(column, overflow="fold")
    for outcome in outcomes:
        table.add_row(
            outcome.fault.NAME,
            outcome.fault.ALERT,
            _seconds(outcome.detected),
            _seconds(outcome.healed) if outcome.well else f"NOT HEALED ({outcome.status or 'no run'})",
            "\n".join(outcome.steps) or "none",
            outcome.proof or "none",
            outcome.run_id or "none",
        )
    console.print(table)
    config, database = settings.remediator_yaml, settings.remediator_yaml.with_name("remediator.db")
    console.print(f"look at a run:     remediator runs show RUN --config {config}", highlight=False, soft_wrap=True)
    console.print(
        f"check the record:  remediator audit verify --db {database}",
        highlight=False,
        soft_wrap=True,
    )
    console.print(f"database and logs: {settings.state}", highlight=False, soft_wrap=True)
    if keep:
        console.print("\nstill running ('make down' stops it):\n" + urls(settings), highlight=False, soft_wrap=True)


def _seconds(length: float | None) -> str:
    return "never" if length is None else f"{length:.1f} s"


if __name__ == "__main__":
    sys.exit(main())
