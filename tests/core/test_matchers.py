"""Label matchers are parsed and matched as in Alertmanager."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from remediator.core.matchers import Matcher, Operator, compile_pattern, example_match, parse_matcher
from remediator.errors import ParseError
from tests.support.servers import require

TEXTS = st.text(st.characters(codec="utf-8"), max_size=30)
NAMES = TEXTS.filter(bool)
LABELS = st.dictionaries(NAMES, TEXTS, max_size=4)


@pytest.mark.parametrize(
    ("text", "name", "operator", "value"),
    [
        ('severity="critical"', "severity", "=", "critical"),
        ("severity=critical", "severity", "=", "critical"),
        ('  env != "prod"  ', "env", "!=", "prod"),
        ("env=~prod|demo", "env", "=~", "prod|demo"),
        (r'instance=~"web\d+"', "instance", "=~", r"web\d+"),
        (r'a="say \"hi\"\n\\"', "a", "=", 'say "hi"\n\\'),
        (r'a="\t"', "a", "=", r"\t"),
        ('absent=""', "absent", "=", ""),
        ('"foo bar"="x"', "foo bar", "=", "x"),
        (r'"tab\there"="a\tb"', "tab\there", "=", "a\tb"),
        (r'"é"="\u00e9\x41\101\U0001F600"', "é", "=", "éAA😀"),
        ("ünï.cödé!~x", "ünï.cödé", "!~", "x"),
        ('a=","', "a", "=", ","),
        ('a="}"', "a", "=", "}"),
    ],
)
def test_what_alertmanager_reads_is_read(text: str, name: str, operator: str, value: str) -> None:
    """Plain names are read with classic escapes, and quoted names with the escapes of Go."""
    assert parse_matcher(text) == Matcher(name, Operator(operator), value)


@pytest.mark.parametrize(
    ("text", "column", "message"),
    [
        ("", 1, "the matcher is empty"),
        ("severity", 9, "an operator is missing"),
        ("a==b", 2, "'==' is no operator"),
        ("a~=b", 2, "'~=' is no operator"),
        ('="b"', 1, "a label's name is missing"),
        ("a=", 3, "a value is missing"),
        ("a='b'", 3, "a value is missing"),
        ('a="b', 3, "this quote is never closed"),
        ('a="b" and c="d"', 7, "unexpected 'and c=\"d\"' after the matcher"),
        ("a=b,c=d", 4, "a second matcher after a comma"),
        ('{a="b"}', 1, "a brace does not belong here"),
        ('a=b"c', 4, "'\"' in a value without quotes"),
        (r'"é"="\d"', 7, r"'\d' is no escape"),
        (r'"é"="\ud800"', 7, r"'\ud800' is no character"),
        (r'"é"="\U00110000"', 7, r"'\U00110000' is no character"),
        ('a=~"("', 4, "'(' is not a regular expression that RE2 takes: missing )"),
        ('a=~"(?=x)"', 4, "'(?=x)' is not a regular expression that RE2 takes: invalid perl operator: (?="),
    ],
)
def test_an_invalid_matcher_is_rejected_with_its_column(text: str, column: int, message: str) -> None:
    """An invalid matcher is rejected with the column and the reason."""
    with pytest.raises(ParseError) as refused:
        parse_matcher(text)
    assert (refused.value.column, refused.value.message) == (column, message)
    assert f"(column {column})" in str(refused.value)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("a==b", "write ="),
        ("a='b'", "double quotes"),
        ('{a="b"}', "without braces"),
        ("a=b,c=d", "one matcher per list entry"),
        ('a=~"(?!x)"', "no look-ahead"),
        ("a=", 'name=""'),
        ("a=b c", "double quotes"),
    ],
)
def test_an_invalid_matcher_has_a_hint(text: str, hint: str) -> None:
    """The hint proposes the likely intended text."""
    with pytest.raises(ParseError) as refused:
        parse_matcher(text)
    assert hint in refused.value.hint


@given(NAMES, st.sampled_from([Operator.EQUAL, Operator.NOT_EQUAL]), TEXTS)
def test_every_matcher_is_equal_after_writing_and_reading(name: str, operator: Operator, value: str) -> None:
    """str() is the inverse of parse_matcher, for any name and value."""
    matcher = Matcher(name, operator, value)
    assert parse_matcher(str(matcher)) == matcher


@given(st.text(max_size=40))
def test_no_text_breaks_the_reader(text: str) -> None:
    """Any text is a matcher, or an error with a column inside the text."""
    try:
        matcher = parse_matcher(text)
    except ParseError as mistake:
        assert 1 <= mistake.column <= len(text) + 1
    else:
        assert parse_matcher(str(matcher)) == matcher


@given(NAMES, TEXTS, LABELS)
def test_the_negative_operator_is_the_opposite(name: str, value: str, labels: dict[str, str]) -> None:
    """For any labels, exactly one of ``=`` and ``!=`` matches."""
    equal, unequal = Matcher(name, Operator.EQUAL, value), Matcher(name, Operator.NOT_EQUAL, value)
    assert equal.matches(labels) is not unequal.matches(labels)


@given(NAMES, TEXTS, LABELS)
def test_an_absent_label_is_an_empty_one(name: str, value: str, labels: dict[str, str]) -> None:
    """A missing label matches like an empty label."""
    absent = {key: text for key, text in labels.items() if key != name}
    for operator in (Operator.EQUAL, Operator.NOT_EQUAL):
        matcher = Matcher(name, operator, value)
        assert matcher.matches(absent) is matcher.matches({**absent, name: ""})


@pytest.mark.parametrize(
    ("pattern", "value", "matches"),
    [
        ("prod", "prod", True),
        ("prod", "production", False),
        ("prod", "non-prod", False),
        ("a|bc", "abc", False),
        (".*", "", True),
        (".+", "", False),
        (".*", "two\nlines", False),
        ("(?s).*", "two\nlines", True),
        ("(?i)redis", "REDIS", True),
        ("[é]", "é", True),
    ],
)
def test_regular_expressions_match_the_whole_value(pattern: str, value: str, matches: bool) -> None:
    """Regular expressions are anchored at both ends, as in Prometheus."""
    assert Matcher("a", Operator.MATCHES, pattern).accepts(value) is matches
    assert Matcher("a", Operator.NOT_MATCHES, pattern).accepts(value) is not matches


@given(st.lists(st.from_regex(r"[a-z \-_0-9]{0,6}", fullmatch=True), min_size=1, max_size=4), TEXTS)
def test_plain_alternatives_are_listed_without_changing_what_they_mean(options: list[str], value: str) -> None:
    """The alternatives of a|b|c are exactly the values that the pattern accepts."""
    matcher = Matcher("a", Operator.MATCHES, "|".join(options))
    assert matcher.literals == frozenset(options)
    for candidate in (*options, value):
        pattern = compile_pattern(matcher.value)
        assert matcher.accepts(candidate) is (pattern.fullmatch(candidate) is not None)


@given(st.from_regex(r"[a-z]{0,3}[.*+?a-z|()\[\]-]{0,6}", fullmatch=True), TEXTS)
def test_a_prefix_is_shared_by_all_that_is_accepted(pattern: str, value: str) -> None:
    """A lookup key never excludes a value that the pattern accepts."""
    try:
        matcher = Matcher("a", Operator.MATCHES, pattern)
    except ParseError:
        return
    for candidate in (value, matcher.prefix + value, pattern):
        assert not matcher.accepts(candidate) or candidate.startswith(matcher.prefix)


def test_a_greedy_pattern_costs_no_more_than_its_length() -> None:
    """A pattern that needs exponential time in a backtracking engine needs linear time."""
    matcher = Matcher("a", Operator.MATCHES, "(a*)*b")
    assert not matcher.accepts("a" * 100_000)


CASES = [
    'severity="critical"',
    "severity=critical",
    'severity!="critical"',
    'severity=~"crit|warn"',
    'severity=~"crit.*"',
    'severity!~"crit.*"',
    'team=""',
    'team!=""',
    'team=~".*"',
    'team=~".+"',
    r'instance=~"web\d+"',
    r'instance="web\d1"',
    'instance=~"web"',
    "instance=~web[0-9]+",
    r'summary="say \"hi\""',
]
ALERTS = [
    {"alertname": "A", "severity": "critical", "instance": "web1"},
    {"alertname": "A", "severity": "warning", "team": "sre", "instance": r"web\d1"},
    {"alertname": "A", "summary": 'say "hi"', "severity": "crit"},
]


@pytest.mark.process
def test_alertmanager_itself_agrees(tmp_path: Path) -> None:
    """amtool routes exactly the alerts that the matchers accept."""
    amtool = require("amtool")
    routes = [{"receiver": f"r{number}", "matchers": [text], "continue": True} for number, text in enumerate(CASES)]
    receivers = [{"name": name} for name in ("none", *(route["receiver"] for route in routes))]
    config = tmp_path / "alertmanager.yml"
    config.write_text(yaml.safe_dump({"route": {"receiver": "none", "routes": routes}, "receivers": receivers}))
    for labels in ALERTS:
        given_ = [f"{name}={_quoted(value)}" for name, value in labels.items()]
        command = [amtool, "config", "routes", "test", "--config.file", str(config), *given_]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        theirs = set(said.splitlines()[-1].split(",")) - {"none"}  # newer versions first warn of classic matchers
        ours = {f"r{number}" for number, text in enumerate(CASES) if parse_matcher(text).matches(labels)}
        assert ours == theirs, labels


def _quoted(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


@pytest.mark.parametrize(
    ("pattern", "example"),
    [
        ("", ""),
        ("worker-[a-z0-9-]{1,40}", "worker-example"),
        ("[a-z0-9.-]+:[0-9]+", "example:9100"),
        ("[A-Za-z0-9:_.@-]{1,100}[.]service", "example.service"),
        ("[0-9]{1,3}", "1"),
        ("web-1|web-2", "web-1"),
        ("ab*[0-9]", "a1"),
        ("(red|blue)-[a-z]+-[0-9]{5}", ""),
    ],
)
def test_an_example_is_accepted_by_its_pattern(pattern: str, example: str) -> None:
    """Every example that is found matches its pattern."""
    assert example_match(pattern) == example
    assert not example or compile_pattern(pattern).fullmatch(example)
