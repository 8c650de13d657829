"""The ``remediator doctor`` command."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import click

from remediator.authoring import doctor
from remediator.authoring.doctor.base import Examination, Level, Result, labels_of
from remediator.cli import _output
from remediator.cli._options import config_option, format_option
from remediator.config import Config
from remediator.core.clock import SystemClock
from remediator.extensions.registry import Registry
from remediator.playbooks.loader import load, load_config
from remediator.reporting.formatting import plural
from remediator.runtime.access import load_people

_MARKS = {Level.OK: "ok", Level.SKIPPED: "-", Level.WARNING: "warning", Level.FAILED: "FAILED"}


@click.command("doctor")
@config_option
@format_option("text", "json")
@click.option("--send", is_flag=True, help="Send a test message to every channel.")
@click.option("--strict", is_flag=True, help="Exit with 1 for warnings too.")
@click.option("--all", "all_", is_flag=True, help="Show successful checks, too.")
def command(config_path: Path, format_: str, send: bool, strict: bool, all_: bool) -> None:
    """Show the problems of this installation, and how to fix them.

    The command reads settings, secrets, store, Alertmanager, Prometheus, discoveries, targets, rights on the targets,
    channels, approvers, checkpoints and TLS. It changes nothing, and sends no messages without --send.

    Exit status: 0 nothing failed; 1 something failed; 2 the settings or playbooks cannot be used.

    \b
    Examples:
      remediator doctor
      remediator doctor --send --strict
      remediator doctor --format json
    """
    config = load_config(config_path, Config)
    registry = Registry.for_settings(config)
    loaded = load(config.playbooks, config.inventory, registry.catalogue())
    about = Examination(
        config_path, config, registry, loaded, load_people(config), SystemClock().now(), send, labels_of(loaded)
    )
    with _output.working("examining the installation"):
        results = asyncio.run(doctor.examine(about))
    if format_ == "json":
        rows = [
            {"check": name, "level": each.level.value, "subject": each.subject, "text": each.text, "fix": each.fix}
            for name, each in results
        ]
        _output.data({"worst": doctor.worst(results).value, "results": rows})
    else:
        _output.lines(_table(results, all_=all_))
    bad = (Level.FAILED, Level.WARNING) if strict else (Level.FAILED,)
    if doctor.worst(results) in bad:
        raise SystemExit(1)


def _table(results: list[tuple[str, Result]], *, all_: bool) -> Iterator[str]:
    """Yield one row for each problem, and one row for each check without a problem."""
    counts = dict.fromkeys(Level, 0)
    for name in dict.fromkeys(name for name, _ in results):
        of_check = [result for check, result in results if check == name]
        for result in of_check:
            counts[result.level] += 1
        shown = [each for each in of_check if all_ or each.level in (Level.WARNING, Level.FAILED)]
        for result in shown:
            yield f"{_MARKS[result.level]:<8} {name:<13} {result.subject}: {result.text}"
            if result.fix:
                yield f"{'':<22} fix: {result.fix}"
        if not shown:
            yield f"{_MARKS[Level.OK]:<8} {name:<13} {len(of_check)} examined"
    yield f"{counts[Level.FAILED]} failed, {plural(counts[Level.WARNING], 'warning')}, {counts[Level.OK]} ok"
