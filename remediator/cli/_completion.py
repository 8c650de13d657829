"""Values that the shell completes: names of playbooks, from the files that the settings name."""

from __future__ import annotations

import os
from pathlib import Path

import click

from remediator.config import Config
from remediator.errors import RemediatorError
from remediator.playbooks.loader import load_config


def complete_playbooks(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Return the names of the playbooks that begin with this text; nothing if the settings cannot be used."""
    path = ctx.params.get("config_path") or os.environ.get("REMEDIATOR_CONFIG") or "remediator.yaml"
    try:
        folders = load_config(Path(path), Config).playbooks
    except (RemediatorError, OSError):
        return []
    files = [each for folder in folders for each in (folder.glob("*.yaml") if folder.is_dir() else (folder,))]
    names = sorted(each.stem for each in files if not each.stem.endswith(".test"))
    return [name for name in names if name.startswith(incomplete)]
