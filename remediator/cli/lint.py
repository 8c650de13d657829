"""The ``remediator lint`` command."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import click

from remediator.authoring.lint.reporters import REPORTERS
from remediator.authoring.lint.runner import Sources, kind_of, lint
from remediator.cli import _output
from remediator.cli._options import format_option
from remediator.clients.endpoints import Endpoint
from remediator.config import Config
from remediator.core.urls import checked_url
from remediator.errors import ClientError, ConfigurationError, InputError
from remediator.extensions.clientset import ClientSet
from remediator.extensions.registry import Registry
from remediator.playbooks.diagnostics import Severity
from remediator.playbooks.inventory import Inventory
from remediator.playbooks.loader import read_model
from remediator.playbooks.model import Playbook
from remediator.runtime.preflight import Capabilities, RightsProblem, find_missing_rights

_SEVERITIES = click.Choice([each.value for each in Severity])
_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.command("lint")
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@format_option(*REPORTERS)
@click.option(
    "--config",
    type=_FILE,
    help="Settings file, for its playbooks and plugins (default: remediator.yaml near the first path).",
)
@click.option(
    "--inventory", type=_FILE, help="Inventory file (default: from the settings file, or near the first path)."
)
@click.option(
    "--alerting",
    multiple=True,
    type=click.Path(path_type=Path, exists=True),
    help="Prometheus rule file or folder; can be repeated (default: alerting near the first path).",
)
@click.option(
    "--prometheus",
    metavar="URL",
    help="URL of a running Prometheus to compare alerts, labels and metrics with (default: none).",
)
@click.option("--min-severity", type=_SEVERITIES, default="info", help="Lowest severity to show (default: info).")
@click.option(
    "--fail-on",
    type=_SEVERITIES,
    default="warning",
    help="Lowest severity that gives exit status 1 (default: warning).",
)
@click.option(
    "--live",
    is_flag=True,
    help="Ask the platforms whether the remediator has the rights for all actions of the playbooks.",
)
def command(
    paths: tuple[Path, ...],
    format_: str,
    config: Path | None,
    inventory: Path | None,
    alerting: tuple[Path, ...],
    prometheus: str | None,
    min_severity: str,
    fail_on: str,
    live: bool,
) -> None:
    """Find all errors in playbooks, inventory and settings.

    PATHS are files and folders (default: the playbooks of --config, or the folder playbooks). Each finding has its
    location, its cause and how to fix it. Without --live and --prometheus, lint connects to nothing. With --live, it
    uses the accounts of the inventory, and changes nothing.

    Exit status: 0 no findings; 1 findings; 2 wrong usage; 3 a file cannot be read.

    \b
    Examples:
      remediator lint
      remediator lint playbooks/redis-down.yaml --fail-on error
      remediator lint playbooks --format github
      remediator lint playbooks --prometheus http://127.0.0.1:9090
      remediator lint --config remediator.yaml --live
    """
    sources = _sources(list(paths) or _configured(config), config, inventory, alerting)
    if prometheus is not None:
        sources = replace(sources, prometheus=Endpoint(url=_url(prometheus)))
    # errors in the settings file are findings of lint itself: here only its plugins count, if it can be read
    settings = None if sources.config is None else read_model(sources.config, Config).model
    registry = Registry() if settings is None else Registry.for_settings(settings)
    ask = partial(_ask_rights, registry) if live else None
    try:
        report = lint(sources, registry.catalogue(), Config, datetime.now(UTC).date(), ask)
    except ClientError as error:
        raise InputError(f"--prometheus {prometheus}: {error}; nothing was checked") from None
    _output.echo(REPORTERS[format_](report, report.at_least(Severity(min_severity))))
    sys.exit(1 if report.at_least(Severity(fail_on)) else 0)


def _url(text: str) -> str:
    try:
        return checked_url(text)
    except ValueError as error:
        raise click.BadParameter(f"{error}, for example http://127.0.0.1:9090", param_hint="--prometheus") from None


def _ask_rights(registry: Registry, playbooks: tuple[Playbook, ...], inventory: Inventory) -> Sequence[RightsProblem]:
    async def ask() -> Sequence[RightsProblem]:
        platforms = registry.make_platforms()
        try:
            clients = ClientSet(platforms=platforms)
            capabilities = Capabilities(platforms, registry.make_actions(clients), registry.make_checks(clients))
            return await find_missing_rights(playbooks, inventory, capabilities)
        finally:
            for platform in platforms.values():
                await platform.aclose()

    return asyncio.run(ask())


def _configured(config: Path | None) -> list[Path]:
    """Return the playbook paths of the settings file, or the default; lint itself reports errors in that file."""
    settings = None if config is None else read_model(config, Config).model
    return [Path("playbooks")] if settings is None else list(settings.playbooks)


def _sources(paths: list[Path], config: Path | None, inventory: Path | None, alerting: Sequence[Path]) -> Sources:
    """Return the files to check.

    Settings, inventory and alert rules that are not given are searched in the folder of the first path, then in its
    parent. The settings can name the inventory.
    """
    for path in paths:
        if not path.exists():
            raise ConfigurationError(
                f"{path}: no such file or folder; name one that exists, or write a playbook with 'remediator init'"
            )
    files = [path for path in paths if path.is_file()]
    kinds = {path: kind_of(path) for path in files}
    inventory = inventory or next((path for path in files if kinds[path] == "Inventory"), None)
    config = config or next((path for path in files if kinds[path] == "Config"), None)
    playbooks = [path for path in paths if kinds.get(path) not in ("Inventory", "Config")]
    folder = paths[0] if paths[0].is_dir() else paths[0].parent
    near = [folder, folder.resolve().parent]
    rules = _first(near, "alerting")
    settings = None if config is None else read_model(config, Config).model  # lint itself reports errors in that file
    return Sources(
        playbooks,
        inventory or (None if settings is None else settings.inventory) or _first(near, "inventory.yaml"),
        config or _first(near, "remediator.yaml"),
        alerting or ([rules] if rules is not None else None),
    )


def _first(folders: Sequence[Path], name: str) -> Path | None:
    return next((folder / name for folder in folders if (folder / name).exists()), None)
