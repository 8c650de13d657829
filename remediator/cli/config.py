"""The ``remediator config`` commands: check and show the settings."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from remediator.authoring import settings_text
from remediator.authoring.lint.runner import Sources, lint
from remediator.cli import _output
from remediator.cli._options import config_option, format_option
from remediator.cli._settings import check_kinds
from remediator.config import Config, redactor_for, token_files
from remediator.errors import ConfigurationError
from remediator.extensions.guard_settings import guard_defaults, guards_off
from remediator.extensions.registry import Registry
from remediator.playbooks.diagnostics import Severity
from remediator.playbooks.loader import load, load_config, load_error
from remediator.playbooks.parsing.nodes import find
from remediator.reporting.formatting import plural
from remediator.runtime.access import credentials_of, load_people, read_credentials


@click.group("config")
def command() -> None:
    """Check and show the settings."""


@command.command("check")
@config_option
def check(config_path: Path) -> None:
    """Check whether the service can start with these settings; change nothing.

    It reads the settings, the inventory, the people file and all playbooks, and builds every channel and witness. It
    connects to nothing: 'remediator doctor' does. Exit status 2 with all errors, each with its place. Risks that do not
    prevent a start are shown as warnings.

    \b
    Example:
      remediator config check --config /etc/remediator/remediator.yaml
    """
    config = load_config(config_path, Config)
    registry = Registry.for_settings(config)
    root = check_kinds(config_path, registry)
    errors = []
    for name, channel in config.channels.items():
        try:
            registry.make_channels({name: channel})
        except ConfigurationError as error:
            errors.append(find(root, ("channels", name))[0].diagnostic("wrong-channel", str(error)))
    if errors:
        raise load_error(f"{config_path} cannot be used", errors)
    registry.make_sources(config)
    for name, source in config.sources.items():
        credentials_of(source, f"sources.{name}")
    guards_off(config)
    guard_defaults(config, registry.guards)
    registry.make_witnesses(config.audit.checkpoints, config.channels)
    loaded = load(config.playbooks, config.inventory, registry.catalogue())
    people = load_people(config)
    # without this setting, the first start creates a token
    if token_files(config.webhook) or config.webhook.basic is not None:
        read_credentials(config)
    report = lint(Sources([], None, config_path), registry.catalogue(), Config, datetime.now(UTC).date())
    for found in report.at_least(Severity.WARNING):
        _output.echo(str(found))
    _output.echo(
        f"{config_path}: valid; {plural(len(loaded.playbooks), 'playbook')}, "
        f"{plural(len(loaded.inventory.services), 'service')}, {plural(len(people.people), 'person', 'people')}, "
        f"{plural(len(config.channels), 'channel')}"
    )


@command.command("show")
@config_option
@format_option("yaml", "json")
@click.option("--changed", is_flag=True, help="Show only the values in the file, without defaults.")
def show(config_path: Path, format_: str, changed: bool) -> None:
    """Show the settings in effect, with defaults marked and without secrets.

    \b
    Examples:
      remediator config show
      remediator config show --changed
    """
    config = load_config(config_path, Config)
    shown = settings_text.redacted(config, redactor_for(config, *Registry.load(config.plugins).models(config)))
    if format_ == "json":
        _output.data(settings_text.as_data(shown, defaults=not changed))
    else:
        _output.echo("\n".join(settings_text.lines(shown, defaults=not changed)))
