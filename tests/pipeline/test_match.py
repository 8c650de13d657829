"""The index finds the same playbooks as a comparison with each playbook, and explains the result."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.match import BUDGET_MICROSECONDS, BUDGET_RATIO, measure
from remediator.pipeline.match import Index, accepts_alertname, explain, holds
from remediator.playbooks.model import Playbook


def playbook(name: str, **match: Any) -> Playbook:
    """Return a playbook with this match."""
    head = {"apiVersion": "remediator/v1", "kind": "Playbook", "name": name, "target": "redis"}
    return Playbook.model_validate({**head, "match": match})


def names(found: list[Playbook]) -> list[str]:
    return [each.name for each in found]


VALUES = st.sampled_from(["", "a", "b", "ab", "a.b", "x", "x|y", "abc-1"])
LABEL = st.sampled_from(["alertname", "service", "severity", "team"])
MATCHERS = st.one_of(
    st.builds(lambda name, value: f'{name}="{value}"', LABEL, VALUES),
    st.builds(lambda name, value: f'{name}!="{value}"', LABEL, VALUES),
    st.builds(
        lambda name, pattern: f'{name}=~"{pattern}"',
        LABEL,
        st.sampled_from([".*", ".+", "a|b", "a.*", "(ab|x).*", "a|", "abc-[0-9]", r"x\\|y", "(?i)A"]),
    ),
    st.builds(lambda name, pattern: f'{name}!~"{pattern}"', LABEL, st.sampled_from(["a|b", ".*b", ".*"])),
)
MATCHES = st.one_of(
    st.fixed_dictionaries({"matchers": st.lists(MATCHERS, min_size=1, max_size=3)}),
    st.fixed_dictionaries(
        {"alertname": st.lists(VALUES.filter(bool), min_size=1, max_size=3), "matchers": st.lists(MATCHERS, max_size=2)}
    ),
)
ALERTS = st.dictionaries(LABEL, VALUES, max_size=4)


@pytest.mark.slow
@given(st.lists(MATCHES, max_size=8), ALERTS)
def test_the_index_finds_what_trying_each_would(matches: list[dict[str, Any]], labels: dict[str, str]) -> None:
    """For any playbooks and any alert, the index finds the same playbooks in the order of their names."""
    playbooks = [playbook(f"p{at}", **match) for at, match in enumerate(matches)]
    wanted = [each.name for each in playbooks if holds(each, labels)]
    assert names(Index(playbooks).match(labels)) == sorted(wanted)


@given(st.lists(MATCHES, max_size=6), ALERTS)
def test_an_explanation_agrees_with_the_match(matches: list[dict[str, Any]], labels: dict[str, str]) -> None:
    """Every playbook has an explanation, and it has no unmet condition exactly if it matches."""
    index = Index([playbook(f"p{at}", **match) for at, match in enumerate(matches)])
    explained = index.explain(labels)
    assert len(explained) == len(matches)
    assert [each.playbook.name for each in explained if each.matches] == names(index.match(labels))


def test_an_explanation_names_the_condition_and_what_was_found() -> None:
    """The explanation has the matcher and the value of the alert."""
    asked = playbook("p", alertname="RedisDown", matchers=['severity="critical"', 'team=~"a.+"'])
    (explained,) = explain([asked], {"alertname": "RedisDown", "severity": "warning"})
    assert [str(unmet) for unmet in explained.unmet] == [
        "severity=\"critical\", but severity is 'warning'",
        'team=~"a.+", but team is missing',
    ]


def test_the_watchdog_is_never_matched() -> None:
    """The Watchdog alert matches no playbook, even one that matches every alert, and the explanation has the reason."""
    index = Index([playbook("greedy", matchers=['team=""'])], watchdog="AlwaysOn")
    assert names(index.match({"alertname": "RedisDown"})) == ["greedy"]
    assert index.match({"alertname": "AlwaysOn"}) == []
    (explained,) = index.explain({"alertname": "AlwaysOn"})
    assert not explained.matches
    assert explained.note == "AlwaysOn only proves that alerts arrive; no playbook matches it"


def test_one_of_several_alertnames_is_enough() -> None:
    """A list of alertnames matches any of them."""
    index = Index([playbook("p", alertname=["A.b", "C|d"])])
    assert [bool(index.match({"alertname": name})) for name in ("A.b", "C|d", "Axb", "C", "d", "")] == [
        True,
        True,
        False,
        False,
        False,
        False,
    ]


@pytest.mark.parametrize(("value", "expected"), [("Watchdog", True), ("RedisDown", False)])
def test_whether_the_alertname_may_have_a_value(value: str, expected: bool) -> None:
    """Only the matchers of the label alertname count."""
    asked = playbook("p", matchers=['alertname=~"Watch.*"', 'severity="critical"'])
    assert accepts_alertname(asked, value) is expected


@pytest.mark.slow
@pytest.mark.parametrize("shape", ["alertname", "service", "pattern"])
def test_many_playbooks_cost_no_more_than_ten(shape: str) -> None:
    """Playbooks that do not match add no cost (``bench.match`` has 10,000; this test has a wider margin)."""
    found: Mapping[str, float | bool] = measure(shape, rounds=40, many=1500)
    assert found["us_many"] <= BUDGET_MICROSECONDS * 3
    assert found["ratio"] <= BUDGET_RATIO * 2
