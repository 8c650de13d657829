"""The extensions of an installation, for commands that work on files and need no service."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from remediator.config import Config
from remediator.extensions.registry import Registry
from remediator.playbooks.loader import load_config, read_model

plugins_option = click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Settings file, for its plugins, commands and requests (default: remediator.yaml near the first path).",
)


def registry_for(config_path: Path | None, paths: Sequence[Path] = ()) -> Registry:
    """Return the built-in extensions, and the plugins, commands and requests of the settings file.

    Args:
        config_path: the settings file; None: ``remediator.yaml`` in the folder of the first path or in its parent. An
            unusable default file is ignored: lint reports its errors.
        paths: the files and folders that the command works on.

    Raises:
        ConfigurationError: the named file or one of its plugins cannot be used.
    """
    if config_path is not None:
        return Registry.for_settings(load_config(config_path, Config))
    folder = None if not paths else paths[0] if paths[0].is_dir() else paths[0].parent
    near = () if folder is None else (folder / "remediator.yaml", folder.resolve().parent / "remediator.yaml")
    found = next((path for path in near if path.is_file()), None)
    settings = None if found is None else read_model(found, Config).model
    return Registry() if settings is None else Registry.for_settings(settings)
