"""Each action and check has one name for its file, class, registration, docs section and test."""

from __future__ import annotations

from pathlib import Path

import pytest

from remediator.extensions.actions.base import Action
from remediator.extensions.checks.base import Check
from remediator.extensions.conformance import action_is_declared
from remediator.extensions.registry import Registry
from tests.support import reference_pages

ROOT = Path(__file__).parents[3]
TESTS = "\n".join(path.read_text() for path in ROOT.glob("tests/**/test_*.py"))


@pytest.mark.parametrize(("plural", "kinds"), [("actions", Registry().actions), ("checks", Registry().checks)])
def test_every_file_is_registered(plural: str, kinds: tuple[type[Action | Check], ...]) -> None:
    """``BUILTIN`` lists every file, and the name of each class matches the name of its file."""
    folder = ROOT / "remediator/extensions" / plural
    files = {path.stem for path in folder.glob("*.py") if not path.stem.startswith("_")} - {"base"}

    assert {kind.name.replace(".", "_").replace("-", "_") for kind in kinds} == files
    assert all(kind.__module__ == f"remediator.extensions.{plural}.{kind.name.replace('.', '_')}" for kind in kinds)


@pytest.mark.parametrize("kind", [*Registry().actions, *Registry().checks], ids=lambda kind: kind.name)
def test_every_action_and_check_is_described(kind: type[Action | Check]) -> None:
    """Each action and check has a docstring, a description of each parameter and a test."""
    assert kind.__doc__
    for name, field in kind.Parameters.model_fields.items():
        assert field.description, name
    assert kind.name in TESTS or kind.__name__ in TESTS


@pytest.mark.parametrize("action", Registry().actions, ids=lambda action: action.name)
def test_declarations_are_consistent(action: type[Action]) -> None:
    """A read-only action is idempotent and not destructive; a reversible one implements its undo."""
    if not action.mutates:
        assert action.idempotent and not action.destructive and not action.reversible
    assert action.reversible == (action.undo_call is not Action.undo_call)


@pytest.mark.parametrize("action", Registry().actions, ids=lambda action: action.name)
def test_what_interrupts_or_destroys_measures_its_cost(action: type[Action]) -> None:
    """Such an action measures its cost. Commands, requests and Jobs that an operator declares are exempt: they need an
    approval."""
    action_is_declared(action)
    if action.interrupts or action.destructive:
        assert action.measures or action.name in ("command.run", "http.request", "job.run")


@pytest.mark.parametrize("name", sorted(reference_pages.PAGES))
def test_the_page_is_current(name: str) -> None:
    """The page matches the code. To regenerate it: python -m tests.support.reference_pages."""
    page = (reference_pages.DOCS / name).read_text()

    assert reference_pages.with_sections(page, reference_pages.PAGES[name]()) == page
