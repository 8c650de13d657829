"""The common checks of the settings file in ``config check`` and ``serve``.

The service does not load the rest of ``config``.
"""

from __future__ import annotations

from pathlib import Path

from remediator.config import Config
from remediator.extensions.registry import Registry
from remediator.playbooks.diagnostics import Severity
from remediator.playbooks.loader import load_error, read_model
from remediator.playbooks.parsing.check_settings import check_settings
from remediator.playbooks.parsing.nodes import Node


def check_kinds(config_path: Path, registry: Registry) -> Node:
    """Check the parts that the model of the settings does not check: guards, channels and sources. Return the content
    of the file.

    Raises:
        ConfigurationError: there are errors; each has its place in the file.
    """
    root = read_model(config_path, Config).root
    assert root is not None, "the caller has read the file"
    errors = [item for item in check_settings(registry.catalogue(), root) if item.severity is Severity.ERROR]
    if errors:
        raise load_error(f"{config_path} cannot be used", errors)
    return root
