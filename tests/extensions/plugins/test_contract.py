"""The conformance tests accept the example and the built-in actions, and find each kind of fault."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from remediator.core.plan import PlannedCall
from remediator.extensions import conformance
from remediator.extensions.actions.base import Action, EffectStatus, Observation
from remediator.extensions.checks.base import CheckAnswer
from remediator.extensions.clientset import ClientSet
from remediator.extensions.registry import Registry
from remediator.playbooks.inventory import Service
from tests.extensions.plugins.conftest import EXAMPLE

SERVICE = Service.model_validate(
    {"name": "app", "platform": {"kind": "supervisor", "url": "unix:///nowhere.sock", "program": "app"}}
)


@pytest.fixture
def registry(installed: Path) -> Registry:
    """Return the built-in extensions and the example."""
    return Registry.load(["remediator-example"])


@pytest.fixture
def drain(registry: Registry) -> Any:
    """Return the action of the example."""
    return registry.make_actions(ClientSet())["example.drain"]


@pytest.mark.parametrize("action", Registry().actions, ids=lambda action: action.name)
def test_built_in_actions_conform(action: type[Action]) -> None:
    """The built-in actions pass the conformance tests for plugins."""
    conformance.action_is_declared(action)
    assert action.declared_traits().summary, f"{action.name} has no summary"


async def test_the_example_action_conforms(drain: Any, tmp_path: Path) -> None:
    """The declarations, the plan, the refusal and the observation of the example conform."""
    parameters = drain.Parameters(folder=tmp_path)

    def state() -> list[str]:
        return sorted(path.name for path in tmp_path.iterdir())

    conformance.action_is_declared(type(drain))
    call = await conformance.plan_only_reads(drain, SERVICE, parameters, state)
    stale = msgspec.structs.replace(call, pin={"folder": -1})
    await conformance.changed_pin_is_refused(drain, SERVICE, parameters, stale, state)
    await conformance.observe_reports_effect(drain, SERVICE, parameters)
    assert state() != [], "the example was executed"


async def test_the_example_check_separates_fail_from_unknown(registry: Registry, tmp_path: Path) -> None:
    """A missing marker file means fail; a missing folder means unknown."""
    check: Any = registry.make_checks(ClientSet())["example.drained"]
    await conformance.check_answers(check, SERVICE, check.Parameters(folder=tmp_path), CheckAnswer.FAIL)
    await conformance.check_answers(check, SERVICE, check.Parameters(folder=tmp_path / "none"), CheckAnswer.UNKNOWN)
    (tmp_path / "app").touch()
    await conformance.check_answers(check, SERVICE, check.Parameters(folder=tmp_path), CheckAnswer.OK)
    with pytest.raises(AssertionError):
        await conformance.check_answers(check, SERVICE, check.Parameters(folder=tmp_path), CheckAnswer.FAIL)


async def test_the_example_notifier_escapes_markup(registry: Registry, tmp_path: Path) -> None:
    """Markup in a label is delivered as plain text."""
    page = next(kind for kind in registry.notifiers if kind.kind == "example")({"path": tmp_path / "page.html"})

    await page.send(conformance.evil_message())

    delivered = (tmp_path / "page.html").read_text()
    conformance.is_escaped(delivered, "<b>", "<!channel>")
    assert "&lt;b&gt;" in delivered


async def test_faults_are_found(drain: Any, tmp_path: Path) -> None:
    """A plan that changes something, an unstable plan, an ignored pin and a wrong observation are found."""
    parameters = drain.Parameters(folder=tmp_path)

    class Writes(type(drain)):  # type: ignore[misc]
        async def plan(self, service: Service, parameters: Any) -> PlannedCall:
            (tmp_path / "written").touch()
            return PlannedCall("x")

    class Differs(type(drain)):  # type: ignore[misc]
        count = 0

        async def plan(self, service: Service, parameters: Any) -> PlannedCall:
            self.count += 1
            return PlannedCall("x", {"count": self.count})

    class Guesses(type(drain)):  # type: ignore[misc]
        async def observe(self, *_: Any) -> Observation:
            return Observation(EffectStatus.YES, "surely")

    def state() -> list[str]:
        return sorted(path.name for path in tmp_path.iterdir())

    with pytest.raises(AssertionError, match="changed something"):
        await conformance.plan_only_reads(Writes(ClientSet()), SERVICE, parameters, state)
    with pytest.raises(AssertionError, match="two plans differ"):
        await conformance.plan_only_reads(Differs(ClientSet()), SERVICE, parameters, state)
    with pytest.raises(AssertionError, match="before the call"):
        await conformance.observe_reports_effect(Guesses(ClientSet()), SERVICE, parameters)
    call = await drain.plan(SERVICE, parameters)
    with pytest.raises(AssertionError, match="another target"):
        await conformance.changed_pin_is_refused(drain, SERVICE, parameters, call, state)


def test_the_page_shows_the_example_as_it_is() -> None:
    """docs/plugins.md contains every file of the example."""
    page = (EXAMPLE.parents[3] / "docs/plugins.md").read_text()
    files = [EXAMPLE / "pyproject.toml", *(EXAMPLE / "remediator_example").glob("[!_]*.py")]
    assert [file.name for file in files if file.read_text().rstrip() not in page] == []
