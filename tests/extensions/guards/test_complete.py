"""Each guard has one name for its file, class, registration, test and docs section, and tests of its three answers."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from remediator.extensions.guards.base import Guard
from remediator.extensions.registry import Registry
from tests.support import guard_reference

HERE = Path(__file__).parent
ORDER = [
    "kill_switch",
    "freeze",
    "watchdog",
    "still_firing",
    "dependency",
    "cooldown",
    "rate_limit",
    "concurrency",
    "ramp",
    "min_healthy",
    "storm",
    "circuit_breaker",
    "remedy_memory",
    "preconditions",
    "managed_by",
    "about_target",
    "regression",
    "autonomy",
]


def test_guards_have_the_designed_order() -> None:
    """The order is: stops, quality of the data, earlier actions, limits."""
    assert [guard.name for guard in Registry().guards] == ORDER


def test_every_file_is_registered() -> None:
    """Every file of a guard is registered."""
    files = {path.stem for path in (HERE.parents[2] / "remediator" / "extensions" / "guards").glob("[a-z]*.py")}

    assert files - {"base"} == set(ORDER)


@pytest.mark.parametrize("guard", Registry().guards, ids=lambda guard: guard.name)
def test_every_guard_has_its_file_test_and_section(guard: type[Guard]) -> None:
    """The module, the test file and the section of the page have the name of the guard."""
    assert guard.__module__ == f"remediator.extensions.guards.{guard.name}"
    tests = (HERE / f"test_{guard.name}.py").read_text()
    for answer in ("allow", "block", "unknown"):
        assert re.search(rf"Answer\.{answer.upper()}|{answer}", tests), answer
    section = guard_reference.PAGE.read_text().split(f"\n## {guard.name}\n")
    assert len(section) == 2, "one section of its own"
    for heading in ("**Default**", "**Turn off**", "**Prevents**"):
        assert heading in section[1].split("\n## ")[0], heading


@pytest.mark.parametrize("guard", Registry().guards, ids=lambda guard: guard.name)
def test_every_guard_is_active_by_default(guard: type[Guard]) -> None:
    """Every guard is active with default settings, and each setting has a description."""
    guard.Settings()

    assert guard.__doc__
    for name, field in guard.Settings.model_fields.items():
        assert field.description, name


def test_the_table_of_the_page_matches_the_code() -> None:
    """The table of the page matches the code. To regenerate it: python -m tests.support.guard_reference."""
    page = guard_reference.PAGE.read_text()

    assert guard_reference.with_head(page) == page
