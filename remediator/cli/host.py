"""The ``remediator host`` commands: the files of another host for actions by SSH."""

from __future__ import annotations

import json
from pathlib import Path

import click

from remediator.authoring import host_setup
from remediator.cli import _output
from remediator.cli._options import config_option
from remediator.clients.ssh.bundle import wrapper_text
from remediator.config import Config
from remediator.extensions.registry import Registry
from remediator.playbooks.inventory import Inventory
from remediator.playbooks.loader import load, load_config
from remediator.runtime.live_inventory import with_targets_of


@click.group("host")
def command() -> None:
    """Prepare other hosts for actions by SSH."""


@command.command("wrapper")
def wrapper() -> None:
    """Print remediator-remote, the program that a host starts for the remediator.

    The program is one file, needs only Python 3.6 or newer, and does only what the allow-list of its host permits.
    Install it as root, so that the user of the remediator cannot change it.

    \b
    Example:
      remediator host wrapper | ssh root@web-1 'cat > /usr/local/bin/remediator-remote'
    """
    _output.echo(wrapper_text(), nl=False)


@command.command("allow-list")
@click.argument("service")
@config_option
def allow_list(service: str, config_path: Path) -> None:
    """Print the allow-list of the host of SERVICE: exactly the calls that the inventory and the commands need.

    \b
    Example:
      remediator host allow-list web-1 | ssh root@web-1 'cat > /etc/remediator-remote.json'
    """
    config, inventory = _loaded(config_path)
    allowed = host_setup.allow_list(inventory, config.commands, host_setup.host_of(inventory, service))
    _output.echo(json.dumps(allowed, indent=2))


@command.command("authorized-key")
@click.argument("service")
@config_option
def authorized_key(service: str, config_path: Path) -> None:
    """Print the line for the authorized keys of the user on the host of SERVICE.

    The line allows the key to start only remediator-remote: no shell, no forwarding, no terminal.

    \b
    Example:
      remediator host authorized-key web-1
    """
    _, inventory = _loaded(config_path)
    _output.echo(host_setup.authorized_key(host_setup.host_of(inventory, service)))


def _loaded(config_path: Path) -> tuple[Config, Inventory]:
    config = load_config(config_path, Config)
    written = load(config.playbooks, config.inventory, Registry.for_settings(config).catalogue()).inventory
    return config, with_targets_of(config, written)
