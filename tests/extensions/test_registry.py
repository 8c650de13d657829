"""Each extension has one name for its file, class, registration, docs section and test."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from remediator.extensions.registry import Registry

ROOT = Path(__file__).parents[2]
CLASSES = {"guards": Registry().guards, "notifiers": Registry().notifiers, "platforms": Registry().platforms}
EACH = [(plural, kind) for plural, kinds in CLASSES.items() for kind in kinds]


def called(kind: type) -> str:
    """Return the name in settings files, playbooks and inventories."""
    return str(getattr(kind, "kind", "") or getattr(kind, "name", ""))


def files(folder: str) -> set[str]:
    """Return the names of the implementation modules of a package."""
    return (
        {path.stem for path in (ROOT / "remediator" / folder).glob("*.py")}
        - {"__init__", "base"}
        - {path.stem for path in (ROOT / "remediator" / folder).glob("_*.py")}
    )


def written(folder: str) -> str:
    """Return the source of the tests of a package."""
    return "\n".join(path.read_text() for path in (ROOT / "tests").glob(f"{folder}/test_*.py"))


@pytest.mark.parametrize("plural", sorted(CLASSES))
def test_every_file_is_registered(plural: str) -> None:
    """``BUILTIN`` lists every file, and the name of each class matches the name of its file."""
    kinds = CLASSES[plural]

    assert {called(kind) for kind in kinds} == files(f"extensions/{plural}")
    assert all(kind.__module__ == f"remediator.extensions.{plural}.{called(kind)}" for kind in kinds)


def test_every_witness_is_registered() -> None:
    """The kind of each witness is the name of its file."""
    assert set(Registry().witnesses) == files("extensions/witnesses")


@pytest.mark.parametrize(("plural", "kind"), EACH, ids=lambda each: each if isinstance(each, str) else called(each))
def test_every_one_has_a_section_and_a_test(plural: str, kind: type) -> None:
    """Each extension has a docstring, a docs section with its name, and a test."""
    page = (ROOT / "docs" / f"{plural}.md").read_text()

    assert kind.__doc__
    assert re.search(rf"(?m)^## {re.escape(called(kind))}$", page)
    own = ROOT / "tests" / "extensions" / plural / f"test_{called(kind)}.py"
    named = rf'\b{kind.__name__}\b|"{re.escape(called(kind))}"'
    assert (
        own.exists()
        or re.search(named, written(f"extensions/{plural}"))
        or re.search(rf"\b{kind.__name__}\b", written("**"))
    )


@pytest.mark.parametrize("kind", sorted(Registry().witnesses))
def test_every_witness_has_a_test_and_is_documented(kind: str) -> None:
    """Each witness has a test file, and a docs page shows its settings."""
    pages = "\n".join(page.read_text() for page in (ROOT / "docs").glob("*.md"))

    assert (ROOT / "tests" / "extensions" / "witnesses" / f"test_{kind}.py").exists()
    assert re.search(rf"\bkind: {kind}\b", pages)


@pytest.mark.parametrize("store", ["sqlite", "postgres"])
def test_every_store_has_tests_and_is_documented(store: str) -> None:
    """The same tests run on both stores, and docs/operations.md describes the choice."""
    operations = (ROOT / "docs" / "operations.md").read_text().lower()

    assert store in files("storage")
    assert store in (ROOT / "tests" / "storage" / "conftest.py").read_text().lower()
    assert store in operations
