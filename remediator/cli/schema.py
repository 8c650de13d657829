"""``remediator schema``: JSON Schema for editors."""

from __future__ import annotations

from pathlib import Path

import click

from remediator.authoring.json_schema import KINDS, committed, schema, text
from remediator.cli._plugins import plugins_option, registry_for
from remediator.config import Config


@click.command("schema")
@plugins_option
@click.argument("kind", type=click.Choice(KINDS), required=False)
@click.option(
    "--write", type=click.Path(path_type=Path, file_okay=False), help="Write all of them into this folder instead."
)
def command(config_path: Path | None, kind: str | None, write: Path | None) -> None:
    """Print the JSON Schema of one KIND of file, so that an editor completes and explains it.

    Name it in the first line of a file: "# yaml-language-server: $schema=PATH".

    \b
    Examples:
      remediator schema playbook > playbook.json
      remediator schema --write docs/schema
    """
    catalogue = registry_for(config_path).catalogue()
    if write is not None:
        write.mkdir(parents=True, exist_ok=True)
        for name, content in committed(KINDS, catalogue, Config).items():
            (write / name).write_text(content, encoding="utf-8")
    elif kind is not None:
        click.echo(text(schema(kind, catalogue, Config)), nl=False)
    else:
        raise click.UsageError(f"name a kind ({', '.join(KINDS)}), or a folder with --write")
