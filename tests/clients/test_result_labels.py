"""The labels of the result of a PromQL expression decide which labels an alert can have."""

from __future__ import annotations

import pytest

from remediator.clients.prometheus.result_labels import result_labels
from remediator.errors import InputError


@pytest.mark.parametrize(
    ("expression", "values"),
    [
        ('up{job="shop"} == 0', {"job": "shop"}),
        ('1 - up{job="shop"} > 0', {"job": "shop"}),
        ('up{job=~"shop|app"} == 0', {}),
        ('sum(rate(http_requests_total{job="shop"}[5m])) > 1', {}),
        ('sum by (job) (rate(e{job="shop"}[5m])) / sum by (job) (rate(r{job="shop"}[5m])) > 0.1', {"job": "shop"}),
        ('sum without (code) (e{job="shop", code="500"}) > 1', {"job": "shop"}),
        ('topk(3, e{job="shop"})', {"job": "shop"}),
        ('absent(up{job="shop"})', {"job": "shop"}),
        ('a{job="shop"} unless b{job="other"}', {"job": "shop"}),
        ('up{job="shop"} == 0 or absent(up{job="shop"})', {"job": "shop"}),
        ('up{job="shop"} == 0 or up{job="app"} == 0', {}),
        ('a{job="shop", env="x"} > on (env) b', {"env": "x"}),
        ('a{job="shop", env="x"} > ignoring (env) b', {"job": "shop"}),
        ('a{job="shop", env="x"} * on (env) group_left (team) b', {"job": "shop", "env": "x"}),
        ('a * on (env) group_right () b{job="shop"}', {"job": "shop"}),
        ('label_replace(up{job="shop"}, "job", "$1", "x", "(.*)") == 0', {}),
        ('max_over_time(rate(e{job="shop"}[1m])[10m:1m]) > 1', {"job": "shop"}),
    ],
)
def test_a_label_is_fixed_only_if_every_result_has_its_value(expression: str, values: dict[str, str]) -> None:
    """A label has a fixed value only if every result has this value."""
    assert result_labels(expression).values == values


@pytest.mark.parametrize(
    ("expression", "label", "possible"),
    [
        ("up == 0", "instance", True),
        ("sum(up) == 0", "instance", False),
        ("sum by (job) (up) == 0", "instance", False),
        ("sum by (job) (up) == 0", "job", True),
        ("sum without (instance) (up) == 0", "instance", False),
        ("absent(up)", "job", False),
        ("vector(1)", "job", False),
        ("histogram_quantile(0.9, sum by (le, job) (rate(b[5m]))) > 1", "le", False),
        ("sum by (env) (a) * on (env) group_left (team) b", "team", True),
    ],
)
def test_aggregations_remove_labels_and_joins_add_some(expression: str, label: str, possible: bool) -> None:
    """An aggregation removes labels, and a join adds some."""
    assert result_labels(expression).may_have(label) is possible


def test_an_invalid_expression_is_an_error() -> None:
    """The error contains the expression."""
    with pytest.raises(InputError, match="invalid PromQL 'sum by'"):
        result_labels("sum by")
