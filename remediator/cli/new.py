"""``remediator new``: a commented start."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import click

from remediator.authoring import scaffold
from remediator.authoring.lint.alerting import read_alerts
from remediator.authoring.scaffold import KnownAlert
from remediator.config import Config
from remediator.errors import InputError
from remediator.playbooks.inventory import Inventory
from remediator.playbooks.loader import read, read_model

_folder = click.Path(path_type=Path, file_okay=False)


@click.group("new")
def command() -> None:
    """A commented start for a new file."""


@command.command("playbook")
@click.argument("name")
@click.option("--alert", default="", help="The alertname; default: NAME in CamelCase.")
@click.option("--target", default="", help="A service of the inventory; default: the one that the alert's rule names.")
@click.option("--folder", type=_folder, default=Path("playbooks"), show_default=True, help="Where it goes.")
@click.option("--inventory", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Default: one near.")
@click.option("--alerting", type=click.Path(path_type=Path, exists=True), help="Prometheus rules; default: near.")
def playbook(name: str, alert: str, target: str, folder: Path, inventory: Path | None, alerting: Path | None) -> None:
    """Write FOLDER/NAME.yaml: a playbook that does nothing until you change its mode, and its test.

    \b
    Example:
      remediator new playbook cache-slow --alert CacheSlow --target redis
    """
    inventory = inventory or _near(folder, "inventory.yaml")
    if inventory is None:
        raise InputError("there is no inventory.yaml near; give one with --inventory")
    path = folder / f"{name}.yaml"
    rules = alerting or _near(folder, "alerting")
    known = [] if rules is None else _known(rules)
    start = scaffold.begin(name, alert, target, read(inventory, Inventory), known, _channels(folder))
    _write(path, scaffold.playbook(start, _schema(folder, "playbook")))
    _write(folder / f"{name}.test.yaml", scaffold.test(start, _schema(folder, "test")))
    click.echo(f"{path}: for {start.alert}, on {start.target}, in mode shadow")
    if known and start.alert not in {item.name for item in known}:
        click.echo(f"no rule in {rules} is called {start.alert} yet: lint warns until there is one")
    click.echo(f"next: read it, change it, remediator lint {path} && remediator test {path}")


def _known(rules: Path) -> Sequence[KnownAlert]:
    return [KnownAlert(item.name, item.labels.get("service", ""), item.expression) for item in read_alerts([rules])]


def _channels(folder: Path) -> Sequence[str]:
    """Of the settings file, if there is one near that can be used; lint tells what is wrong with it otherwise."""
    found = _near(folder, "remediator.yaml")
    config = None if found is None else read_model(found, Config).model
    return () if config is None else tuple(config.channels)


def _near(folder: Path, name: str) -> Path | None:
    places = (folder / name, folder.resolve().parent / name, Path(name))
    return next((place for place in places if place.exists()), None)


def _schema(folder: Path, kind: str) -> str:
    found = _near(folder, f"docs/schema/{kind}.json")
    return "" if found is None else os.path.relpath(found.resolve(), folder.resolve())


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise InputError(f"{path} is there already; nothing was written") from None
