"""Build the settings of the loops that publish, archive and delete data from the settings file."""

from __future__ import annotations

from pathlib import Path

from remediator.audit import Signer
from remediator.config import Config
from remediator.core.local_files import own_folder
from remediator.extensions.registry import Registry
from remediator.runtime.checkpointing import CheckpointSettings
from remediator.runtime.pruning import PruningSettings
from remediator.runtime.retention import RetentionSettings

ARCHIVE = "archive"
"""Folder of the archive in the state folder."""


def checkpoint_settings(config: Config, registry: Registry, signer: Signer) -> CheckpointSettings:
    """Return when to sign checkpoints, and where to publish them.

    Raises:
        ConfigurationError: a witness cannot be used.
    """
    settings = config.audit
    origin = config.audit_origin
    witnesses = registry.make_witnesses(settings.checkpoints, config.channels)
    return CheckpointSettings(origin, signer, witnesses, settings.checkpoint_entries, settings.checkpoint_interval)


def archive_folder(config: Config) -> Path | None:
    """Return the folder of the audit log's archive; None if all entries stay in the database."""
    named = config.audit.archive.folder
    return named or (config.state / ARCHIVE if config.store == "sqlite" else None)


def retention_settings(config: Config) -> RetentionSettings | None:
    """Return which audit entries move to the archive; None if there is no archive.

    Raises:
        ConfigurationError: the folder of the archive in the state folder is not the service's own.
    """
    settings = config.audit.archive
    if settings.folder is None:
        own_folder(config.state, ARCHIVE)
    folder = archive_folder(config)
    return None if folder is None else RetentionSettings(folder, settings.min_age, settings.segment_entries)


def pruning_settings(config: Config) -> PruningSettings:
    """Return how long runs are kept. With an archive, only runs whose entries are all archived are deleted."""
    return PruningSettings(config.timing.run_retention, sealed=archive_folder(config) is not None)
