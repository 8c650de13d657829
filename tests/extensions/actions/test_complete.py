"""An action or check is complete: file = name = registration = section = test, and it says what it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from remediator.extensions.actions.base import Action
from remediator.extensions.checks.base import Check
from remediator.extensions.registry import Registry
from tests.support import reference_pages

ROOT = Path(__file__).parents[3]
TESTS = "\n".join(path.read_text() for path in ROOT.glob("tests/**/test_*.py"))


@pytest.mark.parametrize(("plural", "kinds"), [("actions", Registry().actions), ("checks", Registry().checks)])
def test_every_file_is_registered(plural: str, kinds: tuple[type[Action | Check], ...]) -> None:
    """None lies about unused, and what it is called is where it is found."""
    files = {path.stem for path in (ROOT / "remediator/extensions" / plural).glob("*.py")} - {"__init__", "base"}

    assert {kind.name.replace(".", "_").replace("-", "_") for kind in kinds} == files
    assert all(kind.__module__ == f"remediator.extensions.{plural}.{kind.name.replace('.', '_')}" for kind in kinds)


@pytest.mark.parametrize("kind", [*Registry().actions, *Registry().checks], ids=lambda kind: kind.name)
def test_every_one_says_what_it_is(kind: type[Action | Check]) -> None:
    """A sentence, and one for each parameter; and some test speaks of it."""
    assert kind.__doc__
    for name, field in kind.Parameters.model_fields.items():
        assert field.description, name
    assert kind.name in TESTS or kind.__name__ in TESTS


@pytest.mark.parametrize("action", Registry().actions, ids=lambda action: action.name)
def test_what_it_declares_fits_together(action: type[Action]) -> None:
    """What reads is harmless; what says that it has a way back has one; whoever acts can be observed or cannot tell."""
    if not action.mutates:
        assert action.idempotent and not action.destructive and not action.reversible
    assert action.reversible == (action.undo_call is not Action.undo_call)


@pytest.mark.parametrize("name", sorted(reference_pages.PAGES))
def test_the_page_says_what_the_code_says(name: str) -> None:
    """python -m tests.support.reference_pages writes it."""
    page = (reference_pages.DOCS / name).read_text()

    assert reference_pages.with_sections(page, reference_pages.PAGES[name]()) == page
