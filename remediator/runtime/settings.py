"""What the settings say of keeping: who keeps checkpoints, where old audit entries go, and when."""

from __future__ import annotations

from pathlib import Path

from remediator.audit import keys
from remediator.config import Config
from remediator.extensions.registry import Registry
from remediator.runtime.checkpointing import CheckpointSettings
from remediator.runtime.pruning import PruningSettings
from remediator.runtime.retention import RetentionSettings


def checkpoint_settings(config: Config, registry: Registry) -> CheckpointSettings:
    """When to sign, as whom, and who keeps it; makes the key if there is none.

    Raises:
        ConfigurationError: a place cannot work.
    """
    settings = config.audit
    origin = settings.origin or f"remediator/{config.environment}"
    signer = keys.create(settings.key_file or config.state / "audit.key", origin)
    witnesses = registry.make_witnesses(settings.checkpoints, config.channels)
    return CheckpointSettings(origin, signer, witnesses, settings.checkpoint_entries, settings.checkpoint_interval)


def archive_folder(config: Config) -> Path | None:
    """Where sealed segments of the audit log are; None if entries stay in the database."""
    named = config.audit.archive.folder
    return named or (config.state / "archive" if config.store == "sqlite" else None)


def retention_settings(config: Config) -> RetentionSettings | None:
    """How old audit entries move to the archive; None if they do not."""
    folder, settings = archive_folder(config), config.audit.archive
    return None if folder is None else RetentionSettings(folder, settings.min_age, settings.segment_entries)


def pruning_settings(config: Config) -> PruningSettings:
    """How long runs are kept; with an archive, only those leave whose entries are all in it."""
    return PruningSettings(config.timing.run_retention, sealed=archive_folder(config) is not None)
