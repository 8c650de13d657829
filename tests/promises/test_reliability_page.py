"""The table of faults in docs/reliability.md is current, and its tests exist."""

from __future__ import annotations

import ast

import pytest

from tests.promises.reliability import FAULTS, PAGE, ROOT, Fault, with_table


def test_the_table_is_current() -> None:
    """The table is current. If this fails: make reliability."""
    page = PAGE.read_text(encoding="utf-8")
    assert page == with_table(page)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.fault)
def test_the_test_of_a_fault_exists(fault: Fault) -> None:
    """The test file and the test function of each fault exist."""
    name, _, function = fault.test.partition("::")
    found = ast.parse((ROOT / "tests" / name).read_text(encoding="utf-8"))
    names = {node.name for node in ast.walk(found) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))}
    assert not function or function in names
