"""``remediator lint``: every mistake in playbooks, inventory and settings, before 3 a.m."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import click

from remediator.authoring.lint.reporters import REPORTERS
from remediator.authoring.lint.runner import Sources, kind_of, lint
from remediator.cli._plugins import named
from remediator.config import Config
from remediator.errors import ConfigurationError
from remediator.extensions.registry import Registry
from remediator.playbooks.diagnostics import Severity
from remediator.playbooks.loader import load_config

_SEVERITIES = click.Choice([each.value for each in Severity])
_file = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.command("lint")
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@click.option("--format", "format_", type=click.Choice(list(REPORTERS)), default="text", show_default=True)
@click.option(
    "--config",
    type=_file,
    help="Settings file, which names the plugins; default: remediator.yaml, if it is near; without it none are known.",
)
@click.option("--inventory", type=_file, help="Default: the settings file's, or inventory.yaml, if it is near.")
@click.option(
    "--alerting",
    multiple=True,
    type=click.Path(path_type=Path, exists=True),
    help="Prometheus rule files or folders of them; default: alerting, if it is near.",
)
@click.option("--min-severity", type=_SEVERITIES, default="info", show_default=True, help="Show nothing below this.")
@click.option("--fail-on", type=_SEVERITIES, default="warning", show_default=True, help="Exit with 1 from this on.")
def command(
    paths: tuple[Path, ...],
    format_: str,
    config: Path | None,
    inventory: Path | None,
    alerting: tuple[Path, ...],
    min_severity: str,
    fail_on: str,
) -> None:
    """Check PATHS (files and folders; default: those of --config, or playbooks) with their settings file and inventory:
    every error at once, with its place and how to mend it.

    Exit status: 0 nothing found, 1 findings, 2 wrong usage, 3 could not run.

    \b
    Examples:
      remediator lint
      remediator lint playbooks/redis-down.yaml --fail-on error
      remediator lint playbooks --format github
    """
    chosen = _sources(list(paths) or _named(config), config, inventory, alerting)
    report = lint(chosen, Registry.load(named(chosen.config)).catalogue(), Config, datetime.now(UTC).date())
    click.echo(REPORTERS[format_](report, report.at_least(Severity(min_severity))))
    sys.exit(1 if report.at_least(Severity(fail_on)) else 0)


def _named(config: Path | None) -> list[Path]:
    """The playbooks of the settings file; one that cannot be read is a diagnostic, or an error, of what comes next."""
    with suppress(ConfigurationError):
        if config is not None:
            return list(load_config(config, Config).playbooks)
    return [Path("playbooks")]


def _sources(paths: list[Path], config: Path | None, inventory: Path | None, alerting: Sequence[Path]) -> Sources:
    """What was named, and what lies near: in the folder of the first path, or one above it."""
    for path in paths:
        if not path.exists():
            raise ConfigurationError(f"{path}: there is no such file or folder")
    files = [path for path in paths if path.is_file()]
    kinds = {path: kind_of(path) for path in files}
    inventory = inventory or next((path for path in files if kinds[path] == "Inventory"), None)
    config = config or next((path for path in files if kinds[path] == "Config"), None)
    playbooks = [path for path in paths if kinds.get(path) not in ("Inventory", "Config")]
    near = _near(paths[0])
    rules = _first(near, "alerting")
    return Sources(
        playbooks,
        inventory or _first(near, "inventory.yaml"),
        config or _first(near, "remediator.yaml"),
        alerting or ([rules] if rules is not None else None),
    )


def _near(path: Path) -> list[Path]:
    folder = path if path.is_dir() else path.parent
    return [folder, folder.resolve().parent]


def _first(folders: Sequence[Path], name: str) -> Path | None:
    return next((folder / name for folder in folders if (folder / name).exists()), None)
