"""The ``remediator keys`` commands: create the signing keys, and show their public parts."""

from __future__ import annotations

from pathlib import Path

import click

from remediator.audit import keys as audit_keys
from remediator.cli import _output
from remediator.cli._options import config_option
from remediator.config import Config
from remediator.core.tokens import load_keyring
from remediator.playbooks.loader import load_config
from remediator.runtime.signing_keys import audit_key_file, create_signing_keys, links_key_file


@click.group("keys")
def command() -> None:
    """Create and show the signing keys."""


@command.command("create")
@config_option
def create(config_path: Path) -> None:
    """Create the key files of the settings that do not exist.

    Existing keys are kept. All replicas need the same files.

    \b
    Example:
      remediator keys create --config /etc/remediator/remediator.yaml
    """
    config = load_config(config_path, Config)
    created = create_signing_keys(config)
    for path in (links_key_file(config), audit_key_file(config)):
        _output.echo(f"{path}: {'created' if path in created else 'kept'}")


@command.command("show")
@config_option
def show(config_path: Path) -> None:
    """Show the names of the keys and the public key of the audit log.

    Store the public key elsewhere: 'remediator audit verify --key' needs it. No secret is shown.

    \b
    Example:
      remediator keys show
    """
    config = load_config(config_path, Config)
    links = load_keyring(links_key_file(config))
    signer = audit_keys.load_signer(audit_key_file(config), config.audit_origin)
    _output.echo(f"links  {links.names[0]} signs; also valid: {', '.join(links.names[1:]) or 'none'}")
    _output.echo(f"audit  {signer.verifier.encode()}")
