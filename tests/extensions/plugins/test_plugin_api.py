"""``remediator.plugin_api`` exports the names that plugins can use, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from remediator import plugin_api
from remediator.extensions.actions import base as actions
from remediator.extensions.checks import base as checks
from remediator.extensions.guards import base as guards
from remediator.extensions.notifiers import base as notifiers
from remediator.extensions.witnesses import base as witnesses
from tests.extensions.plugins.conftest import EXAMPLE


def classes(module: ModuleType) -> Iterator[str]:
    """Return the names of the classes that a module defines."""
    return (name for name, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__)


def test_every_export_exists_and_every_import_is_exported() -> None:
    """``__all__`` has constants first, then classes, and has no missing or duplicate name."""
    imported = {name for name in vars(plugin_api) if not name.startswith("_") and name != "annotations"}

    assert len(plugin_api.__all__) == len(set(plugin_api.__all__))
    assert set(plugin_api.__all__) == imported


def test_the_base_class_of_each_entry_point_group_is_exported() -> None:
    """The base classes are exported, so a plugin can subclass them."""
    assert {"Action", "Check", "Guard", "Notifier", "Witness"} <= set(plugin_api.__all__)


def test_every_class_of_a_contract_is_exported() -> None:
    """A plugin can name the type of each argument and result of the methods that it implements."""
    needed = {name for module in (actions, checks, guards, notifiers, witnesses) for name in classes(module)}
    public = {name for name in needed if name[0].isupper()}

    assert sorted(public - set(plugin_api.__all__)) == []


def test_the_example_imports_nothing_else_from_remediator() -> None:
    """The example is a complete plugin, and needs only ``remediator.plugin_api``."""
    lines = [
        line
        for file in Path(EXAMPLE / "remediator_example").glob("*.py")
        for line in file.read_text().splitlines()
        if line.startswith(("from remediator.", "import remediator"))
    ]

    assert lines
    assert all(line.startswith("from remediator.plugin_api import") for line in lines)
