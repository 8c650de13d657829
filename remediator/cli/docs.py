"""``remediator docs``: pages for people, made from playbooks."""

from __future__ import annotations

from pathlib import Path

import click

from remediator.authoring.runbook_pages import FORMATS
from remediator.cli._plugins import plugins_option, registry_for
from remediator.errors import ConfigurationError
from remediator.playbooks.diagnostics import Severity
from remediator.playbooks.loader import load_error, load_playbooks


@click.command("docs")
@plugins_option
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path, exists=True))
@click.option("--format", "format_", type=click.Choice(list(FORMATS)), default="md", show_default=True)
@click.option("--write", type=click.Path(path_type=Path, file_okay=False), help="One file each into this folder.")
@click.option("--check", is_flag=True, help="With --write: write nothing, exit with 1 if anything is not current.")
def command(config_path: Path | None, paths: tuple[Path, ...], format_: str, write: Path | None, check: bool) -> None:
    """A runbook page for each playbook in PATHS (default: playbooks), with its flow as a diagram.

    \b
    Examples:
      remediator docs playbooks/redis-down.yaml
      remediator docs --format html --write site
      remediator docs --write docs/playbooks --check
    """
    catalogue = registry_for(config_path).catalogue()
    found = load_playbooks(list(paths) or [Path("playbooks")], catalogue, None)
    errors = [item for item in found.diagnostics if item.severity is Severity.ERROR]
    if errors:
        raise load_error("playbooks cannot be used", errors)
    ending, make = FORMATS[format_]
    pages = {f"{playbook.name}{ending}": make(playbook, catalogue) for playbook in found.playbooks}
    if write is None:
        click.echo("\n".join(pages.values()), nl=False)
    elif check:
        _compare(write, pages, ending)
    else:
        _write(write, pages)


def _write(folder: Path, pages: dict[str, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in pages.items():
        (folder / name).write_text(text, encoding="utf-8")
        click.echo(folder / name)


def _compare(folder: Path, pages: dict[str, str], ending: str) -> None:
    there = {path.name: path.read_text(encoding="utf-8") for path in folder.glob(f"*{ending}")}
    if not there and not folder.is_dir():
        raise ConfigurationError(f"{folder}: there is no such folder")
    stale = sorted(name for name in pages.keys() | there.keys() if pages.get(name) != there.get(name))
    for name in stale:
        click.echo(f"{folder / name}: {'not current' if name in pages else 'of no playbook'}")
    if stale:
        raise SystemExit(1)
