"""The ``remediator test`` command."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from remediator.authoring.testing.runner import Report, files_in, run
from remediator.cli import _output
from remediator.cli._options import format_option
from remediator.cli._plugins import plugins_option, registry_for
from remediator.playbooks.diagnostics import render


@click.command("test")
@plugins_option
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@click.option("--only", default="", metavar="TEXT", help="Run only tests whose name contains TEXT (default: all).")
@format_option("text", "json")
@click.option(
    "--coverage",
    type=click.IntRange(0, 100),
    default=0,
    help="Exit with 1 if tests reach fewer percent of a playbook's branches (default: 0).",
)
def command(config_path: Path | None, paths: tuple[Path, ...], only: str, format_: str, coverage: int) -> None:
    """Run the tests of playbooks on a virtual clock.

    PATHS are test files (*.test.yaml), playbooks with a test beside them, and folders (default: playbooks). The
    pipeline is the production code. The alerts, the clock, and the results of checks and actions come from the test.

    Exit status: 0 all tests passed; 1 a test failed; 2 wrong usage; 3 a file cannot be used.

    \b
    Examples:
      remediator test
      remediator test playbooks/redis-down.yaml --only restart
      remediator test --coverage 100
    """
    chosen = list(paths) or [Path("playbooks")]
    registry = registry_for(config_path, chosen)
    reports = [run(file, registry, only) for file in files_in(chosen)]
    _output.echo(json.dumps([_plain(one) for one in reports], indent=2) if format_ == "json" else _text(reports))
    if any(one.errors for one in reports):
        sys.exit(3)
    missing = not only and any(_percent(one) < coverage for one in reports)
    sys.exit(1 if missing or any(one.failed for one in reports) else 0)


def _text(reports: Sequence[Report]) -> str:
    lines = []
    for one in reports:
        taken = len(one.branches) - len(one.untaken)
        coverage = f": {taken} of {len(one.branches)} branches tested ({_percent(one)} %)" if one.branches else ""
        lines.append(one.file + coverage)
        lines += [f"  {'ok  ' if not test.diagnostics else 'FAIL'} {test.name}" for test in one.tests]
        for diagnostic in (*one.errors, *(item for test in one.tests for item in test.diagnostics)):
            lines.append("\n" + render(diagnostic) + "\n")
        if one.untaken:
            lines.append(f"  branches not tested: {', '.join(one.untaken)}")
    tests, failed = sum(len(one.tests) for one in reports), sum(one.failed for one in reports)
    lines.append(f"\n{tests} tests, {failed} failed, {sum(bool(one.errors) for one in reports)} files cannot be used")
    return "\n".join(lines)


def _percent(one: Report) -> int:
    return 100 if not one.branches else 100 * (len(one.branches) - len(one.untaken)) // len(one.branches)


def _plain(one: Report) -> dict[str, object]:
    return {
        "file": one.file,
        "errors": [str(item) for item in one.errors],
        "tests": [{"name": test.name, "failures": [str(item) for item in test.diagnostics]} for test in one.tests],
        "branches": list(one.branches),
        "taken": sorted(one.taken & set(one.branches)),
    }
