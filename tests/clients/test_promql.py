"""Functions that read and write PromQL text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remediator.clients.prometheus.promql import escape_pattern, escape_value, is_comparison, parse, selector, selectors
from remediator.errors import InputError


@pytest.mark.promise(8)
@given(st.text())
def test_an_escaped_value_holds_no_quote_and_no_newline(value: str) -> None:
    """An escaped value cannot end a string of any kind, and its backslashes form complete escapes."""
    escaped = escape_value(value)
    assert not set(escaped) & set("\"'`\n")
    rest = escaped.replace("\\\\", "")
    assert all(rest[at + 1 : at + 2] in ("n", "x") for at, character in enumerate(rest) if character == "\\")


def test_a_pattern_matches_only_itself() -> None:
    """Special characters of regular expressions are escaped, so a pattern matches only its own text."""
    assert escape_pattern("a.b|c") == "a\\\\.b\\\\|c"


def test_a_selector_is_built_from_checked_names() -> None:
    """Label values may be any text. Label names are checked."""
    assert selector("up", {}) == "up"
    assert selector("up", {"job": 'x"y', "a": "b"}) == 'up{job="x\\x22y",a="b"}'
    for metric, label in (("up{}", "a"), ("", "a"), ("up", "a-b"), ("up", "a:b"), ("up", "")):
        with pytest.raises(InputError):
            selector(metric, {label: "x"})


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("up", ("up",)),
        ("up == 0", ("up",)),
        ('redis_up{job="redis-exporter"} == 0', ('redis_up{job="redis-exporter"}',)),
        ('{__name__=~"a}b", x!="y"}', ('{__name__=~"a}b",x!="y"}',)),
        ("sum(rate(http_requests_total{code=~'5..'}[5m])) by (job)", ("http_requests_total{code=~'5..'}",)),
        ("sum by (job, instance) (a) / ignoring(x) group_left(y) sum without (z) (b)", ("a", "b")),
        ("a and on (x) b or c unless d", ("a", "b", "c", "d")),
        ("a offset 5m > bool 1e3 + -2 @ 1609746000", ("a",)),
        ("count_over_time(a[1d:1m] offset -1h)", ("a",)),
        ("histogram_quantile(0.99, sum by (le) (rate(x_bucket[5m])))", ("x_bucket",)),
        ("topk(3, job:errors:rate5m) # and not_this", ("job:errors:rate5m",)),
        ("label_replace(a, 'b', '$1', 'c', '(.*)')", ("a",)),
        ("a + a", ("a",)),
        ("a @ start() + time() * Inf - NaN", ("a",)),
        ("vector(1)", ()),
        ("1", ()),
        ("", ()),
    ],
)
def test_the_selectors_of_an_expression_are_found(expression: str, expected: tuple[str, ...]) -> None:
    """The search finds metrics, and no functions, operators, label lists, durations, strings or comments."""
    assert selectors(expression) == expected


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("redis_up == 0", True),
        ('redis_up{job=~"a|b", x!="("} == 0', True),
        ("(redis_up == 0)", True),
        ("1 < x < 5", True),
        ("sum by (job) (rate(errors[5m])) / on (job) total < 0.01  # few", True),
        ("a == 0 or b == 0", True),
        ("(a == 0) and on (job) up", True),
        ("a > b unless c", True),
        ("x != bool 0", False),
        ("up", False),
        ('up{job="x"}', False),
        ("sum(x > 5)", False),
        ("up and on (job) (errors == 0)", False),
        ("a == 0 or vector(0)", False),
        ("(a == 0) + (b == 0)", False),
        ("absent(up == 1)", False),
        ("", False),
    ],
)
def test_whether_samples_or_their_values_are_the_answer(expression: str, expected: bool) -> None:
    """A comparison yields the series for which it holds. Other expressions yield values."""
    assert is_comparison(expression) is expected


@pytest.mark.parametrize(
    "query",
    [
        "rate(up[1e30])",
        "rate(up[599999999999999999999])",
        "rate(up[1e19])",
        "up offset 1e30",
        "up offset NaN",
        "up offset # why\n -1e30",
        "max_over_time(up[5m:1e30])",
        "up[999999999999999999999y]",
    ],
)
def test_a_duration_that_does_not_fit_is_an_error_of_the_query(query: str, capfd: pytest.CaptureFixture[str]) -> None:
    """A duration out of range is an error, because the library would panic and write a stack trace."""
    with pytest.raises(ValueError, match="duration"):
        parse(query)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    "query", ['up{a=":1e30"}', "job:inf", "up offset 60 > 1e30", "up[60:5] offset -5", "1e30 - inf"]
)
def test_a_long_number_that_is_no_duration_is_allowed(query: str) -> None:
    """A query may contain numbers that would be out of range as a duration."""
    assert parse(query) is not None
