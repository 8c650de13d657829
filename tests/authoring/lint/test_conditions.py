"""Lint finds conditions that hold after any failure of a check, and matchers that do not name a target."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from remediator.authoring.lint.rules_causes import negated_ok
from remediator.core.matchers import parse_matcher
from remediator.playbooks.inventory import Service
from remediator.playbooks.target_identity import example_value, names_target, naming_matchers
from tests.authoring.lint.mistakes import WORLD, look


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("!evidence.ping.ok", ("ping",)),
        ("!(evidence.ping.ok)", ("ping",)),
        ('!evidence["redis-ping"].ok', ("redis-ping",)),
        ("evidence.ping.ok == false", ("ping",)),
        ("evidence.ping.status != 'ok'", ("ping",)),
        ('evidence.ping.status == "fail"', ("ping",)),
        ("!(evidence.ping.ok == true)", ("ping",)),
        ("!evidence.ping.ok && evidence.disk.ok", ("ping",)),
        ("!(evidence.ping.ok || evidence.http.ok)", ("ping", "http")),
        ("params.force || (!evidence.ping.ok && params.lines > 3)", ("ping",)),
        ("evidence.ping.facts.state == 'down' || !evidence.ping.ok", ("ping",)),
        ("evidence.ping.ok", ()),
        ("!!evidence.ping.ok", ()),
        ("evidence.ping.facts.state == 'down'", ()),
        ("!evidence.ping.ok && evidence.ping.facts.state == 'down'", ()),
        ("!evidence.ping.ok && steps.probe.output.count > 3", ()),
        ("evidence.ping.facts.note == '!evidence.ping.ok'", ()),
        ("evidence.ping.ok ? params.a : params.b", ()),
    ],
)
def test_a_negated_ok_is_found(text: str, found: tuple[str, ...]) -> None:
    """A negated ok is reported, unless facts or a step's output in the same alternative distinguish the states."""
    assert negated_ok(text) == found


SUPERVISOR = {"kind": "supervisor", "url": "unix:///run/none.sock", "program": "app"}
KUBERNETES = {"kind": "kubernetes", "namespace": "shop", "deployment": "app"}


def service(**given: Any) -> Service:
    """Return a service named app."""
    made = Service.model_validate({"platform": SUPERVISOR, **given})
    return made.model_copy(update={"name": "app"})


@pytest.mark.parametrize(
    ("given", "matchers"),
    [
        ({}, ['service="app"']),
        ({"alerts_as": {"job": "app"}}, ['job="app"']),
        ({"platform": KUBERNETES}, ['service="app"']),
        ({"alert_label_values": {"instance": ["10.0.0.5:9100"]}}, ['instance="10.0.0.5:9100"']),
        ({"alert_label_values": {"pod": ["app-*", "web-[0-9]"]}}, ['pod=~"app-.*|web-[0-9]"']),
        ({"alert_label_values": {"instance": ["10.0.0.*"]}}, ['instance=~"10\\.0\\.0\\..*"']),
    ],
)
def test_the_matcher_to_add_names_the_target(given: dict[str, Any], matchers: list[str]) -> None:
    """The matcher that the hint proposes satisfies the rule, and its example value satisfies the matcher."""
    target = service(**given)
    assert [str(parse_matcher(text)) for text in naming_matchers(target)] == [
        str(parse_matcher(text)) for text in matchers
    ]
    for text in naming_matchers(target):
        matcher = parse_matcher(text)
        assert names_target(matcher, target)
        assert matcher.accepts(example_value(matcher, target))


@pytest.mark.parametrize(
    ("matcher", "named"),
    [
        ('service="app"', True),
        ('service=~"app|web"', False),
        ('service!="web"', False),
        ('service=~".*"', False),
        ('severity="critical"', False),
        ('container="app"', False),
        ('namespace="shop"', False),  # other workloads have this namespace too
        ('namespace="elsewhere"', False),
        ('pod=~"app-.+"', True),
    ],
)
def test_a_matcher_names_the_target_or_not(matcher: str, named: bool) -> None:
    """A matcher names the target if it has an identifying label with a value of this target."""
    assert names_target(parse_matcher(matcher), service(platform=KUBERNETES)) is named


@pytest.mark.parametrize(
    ("condition", "named"),
    [
        ("evidence.ping.facts.clients == null", "evidence.ping.facts.clients"),
        ("null == evidence.ping.facts['clients']", "evidence.ping.facts['clients']"),
        ("cost.clients==null && true", "cost.clients"),
        ("steps.restart.output.pid == null", "steps.restart.output.pid"),
        ("evidence.ping.facts.clients != null", None),
        ("has(evidence.ping.facts.clients)", None),
        ("params.lines == null", None),
    ],
)
def test_a_comparison_of_a_fact_with_null_is_reported(tmp_path: Path, condition: str, named: str | None) -> None:
    """Lint reports == null, which is never true for a missing fact. It accepts != null and has()."""
    text = (WORLD / "redis-down.yaml").read_text()
    step = "on_failure: next\n  - id: prune\n"
    assert step in text
    (tmp_path / "redis-down.yaml").write_text(text.replace(step, f'{step}    when: "{condition}"\n'))
    said = [item.message for item in look(tmp_path).diagnostics if item.rule == "impossible-value"]
    assert said == ([] if named is None else [f"{named} is never null: a fact that is not reported does not exist"])
