"""Verify in every test that checks and actions report only facts that they declare."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from remediator.extensions.conformance import facts_are_declared
from remediator.extensions.registry import Registry


@pytest.fixture(autouse=True, scope="session")
def only_declared_facts() -> Iterator[None]:
    """Compare the facts of each evidence and the output of each result with the declarations.

    An undeclared output fails too, so every built-in check and action is covered.
    """
    with pytest.MonkeyPatch.context() as patch:
        for check in Registry().checks:
            patch.setattr(check, "observe", _compared(check.observe, "facts"))
        for action in Registry().actions:
            patch.setattr(action, "execute", _compared(action.execute, "output"))
        yield


def _compared(method: Callable[..., Awaitable[Any]], reported: str) -> Callable[..., Awaitable[Any]]:
    @functools.wraps(method)
    async def call(self: Any, *given: Any) -> Any:
        result = await method(self, *given)
        facts = getattr(result, reported)
        assert self.facts or not facts, f"{self.name} declares no facts, but reports {sorted(facts)}"
        facts_are_declared(self, facts)
        return result

    return call
