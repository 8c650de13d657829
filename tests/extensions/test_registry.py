"""What the registry names is complete: file = name = registration = section of the handbook = test."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from remediator.extensions.registry import Registry

ROOT = Path(__file__).parents[2]
CLASSES = {"guards": Registry().guards, "notifiers": Registry().notifiers, "platforms": Registry().platforms}
EACH = [(plural, kind) for plural, kinds in CLASSES.items() for kind in kinds]


def called(kind: type) -> str:
    """By what a settings file, a playbook or an inventory names it."""
    return str(getattr(kind, "kind", "") or getattr(kind, "name", ""))


def files(folder: str) -> set[str]:
    """The modules of a package."""
    return (
        {path.stem for path in (ROOT / "remediator" / folder).glob("*.py")}
        - {"__init__", "base"}
        - {path.stem for path in (ROOT / "remediator" / folder).glob("_*.py")}
    )


def written(folder: str) -> str:
    """The tests of a package."""
    return "\n".join(path.read_text() for path in (ROOT / "tests").glob(f"{folder}/test_*.py"))


@pytest.mark.parametrize("plural", sorted(CLASSES))
def test_every_file_is_registered(plural: str) -> None:
    """None lies about unused, and what it is called is where it is found."""
    kinds = CLASSES[plural]

    assert {called(kind) for kind in kinds} == files(f"extensions/{plural}")
    assert all(kind.__module__ == f"remediator.extensions.{plural}.{called(kind)}" for kind in kinds)


def test_every_notary_is_registered() -> None:
    """A kind of notary is a file of its name."""
    assert set(Registry().witnesses) == files("extensions/witnesses")


@pytest.mark.parametrize(("plural", "kind"), EACH, ids=lambda each: each if isinstance(each, str) else called(each))
def test_every_one_has_its_section_and_its_test(plural: str, kind: type) -> None:
    """It says what it is, its handbook page has a section of its name, and some test is for it."""
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
def test_every_notary_has_its_test_and_is_in_the_handbook(kind: str) -> None:
    """Its own test file, and some page that shows its settings."""
    pages = "\n".join(page.read_text() for page in (ROOT / "docs").glob("*.md"))

    assert (ROOT / "tests" / "extensions" / "witnesses" / f"test_{kind}.py").exists()
    assert re.search(rf"\bkind: {kind}\b", pages)


@pytest.mark.parametrize("store", ["sqlite", "postgres"])
def test_every_store_keeps_the_contract_and_is_in_the_handbook(store: str) -> None:
    """Both are put through the same tests, and the handbook says how to choose."""
    operations = (ROOT / "docs" / "operations.md").read_text().lower()

    assert store in files("storage")
    assert store in (ROOT / "tests" / "storage" / "conftest.py").read_text().lower()
    assert store in operations
