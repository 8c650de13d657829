"""The example of CONTRIBUTING.md is an action of this version."""

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

PAGE = Path(__file__).parents[1] / "CONTRIBUTING.md"


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return the example as a module."""
    block = re.search(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert block is not None
    module = ModuleType("marker_create")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile(block[1], str(PAGE), "exec"), vars(module))
    return module


async def test_the_example_plans_acts_and_observes(example: ModuleType, tmp_path: Path) -> None:
    """As a reader would try it: observe says no before the call and yes after it."""
    platform = {"kind": "supervisor", "url": "unix:///nowhere/s.sock", "program": "redis"}
    service = Service.model_validate({"name": "redis", "platform": platform})
    action, parameters = example.MarkerCreate(ClientSet()), example.MarkerCreateParameters(folder=tmp_path)
    since = datetime.now(UTC)

    call = await action.plan(service, parameters)
    assert (await action.observe(service, parameters, call, since)).happened is EffectStatus.NO

    assert (await action.execute(service, parameters, call)).outcome is Outcome.OK
    assert (await action.observe(service, parameters, call, since)).happened is EffectStatus.YES
