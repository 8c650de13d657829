"""The example in CONTRIBUTING.md works in this version, and continuous integration runs the documented commands."""

from __future__ import annotations

import re
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType

import pytest

from remediator.core.outcome import Outcome
from remediator.extensions.actions.base import EffectStatus
from remediator.extensions.clientset import ClientSet
from remediator.playbooks.inventory import Service

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "CONTRIBUTING.md"


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return the example of CONTRIBUTING.md as a module."""
    block = re.search(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert block is not None
    module = ModuleType("marker_create")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile(block[1], str(PAGE), "exec"), vars(module))
    return module


async def test_the_example_plans_acts_and_observes(example: ModuleType, tmp_path: Path) -> None:
    """The example works: `observe` answers no before the call and yes after it."""
    platform = {"kind": "supervisor", "url": "unix:///nowhere/s.sock", "program": "redis"}
    service = Service.model_validate({"name": "redis", "platform": platform})
    action, parameters = example.MarkerCreate(ClientSet()), example.MarkerCreateParameters(folder=tmp_path)
    since = datetime.now(UTC)

    call = await action.plan(service, parameters)
    assert (await action.observe(service, parameters, call, since)).happened is EffectStatus.NO

    assert (await action.execute(service, parameters, call)).outcome is Outcome.OK
    assert (await action.observe(service, parameters, call, since)).happened is EffectStatus.YES


def test_continuous_integration_runs_all_tests_and_nothing_that_the_readme_lacks() -> None:
    """`make test` comes last, so that its summary is the last line. The README has every command."""
    called = re.findall(r"^make ([a-z-]+)", (ROOT / ".ci/run").read_text(encoding="utf-8"), re.MULTILINE)
    assert called[-1] == "test" and {"test-long", "fuzz", "bench"} <= {*called}
    readme, page = (ROOT / "README.md").read_text(encoding="utf-8"), PAGE.read_text(encoding="utf-8")
    assert [name for name in called if f"make {name}" not in readme or f"`make {name}`" not in page] == []


def test_each_test_is_in_one_tier() -> None:
    """`make test` runs the tests that `make test-long` does not, and neither names files."""
    recipes = re.findall(r"^(test|test-long):.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    selected = {name: re.search(r'pytest .* -m "?([a-z ]+?)"?$', lines, re.M) for name, lines in recipes}
    assert {name: found and found[1] for name, found in selected.items()} == {"test": "not long", "test-long": "long"}
