"""The dashboards can be imported into any Grafana, and their expressions use existing metrics."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from promql_parser import parse

from remediator.runtime.metrics import Metrics
from tests.support.dashboards import FOLDER, PROVISIONED, importable

NAMES = sorted(path.name for path in PROVISIONED.glob("*.json"))


def expressions(value: Any) -> Iterator[str]:
    """Yield every PromQL expression of a dashboard."""
    if isinstance(value, dict):
        if isinstance(value.get("expr"), str):
            yield value["expr"]
        for item in value.values():
            yield from expressions(item)
    elif isinstance(value, list):
        for item in value:
            yield from expressions(item)


@pytest.mark.parametrize("name", NAMES)
def test_the_form_for_an_import_is_current(name: str) -> None:
    """The form for an import is current. If this fails: python -m tests.support.dashboards"""
    assert (FOLDER / name).read_text(encoding="utf-8") == importable(PROVISIONED / name)
    made = json.loads((FOLDER / name).read_text(encoding="utf-8"))
    assert [each["name"] for each in made["__inputs"]] == ["DS_PROMETHEUS"]
    assert set(re.findall(r'"uid": "([^"]*)"', json.dumps(made["panels"]))) == {"${DS_PROMETHEUS}"}


@pytest.mark.parametrize("name", NAMES)
def test_the_expressions_are_promql_about_metrics_that_exist(name: str) -> None:
    """Every expression is PromQL about existing metrics, because a renamed metric leaves a panel empty."""
    families = list(Metrics().registry.collect())
    known = {sample.name for family in families for sample in family.samples} | {each.name for each in families}
    known |= {f"{each.name}{end}" for each in families for end in ("_total", "_bucket", "_sum", "_count")}
    found = list(expressions(json.loads((FOLDER / name).read_text(encoding="utf-8"))))
    assert found
    for expression in found:
        parse(expression.replace("$__rate_interval", "5m").replace("$__interval", "1m"))
        assert set(re.findall(r"remediator_\w+", expression)) <= known, expression
