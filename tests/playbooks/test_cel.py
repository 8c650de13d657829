"""Conditions are true, false or unknown; an error has its column, and the cost of a condition is limited."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remediator.errors import ParseError
from remediator.playbooks import cel
from remediator.playbooks.cel import Unknown

SEEN: dict[str, Any] = {
    "evidence": {
        "ping": {"ok": False, "status": "fail", "summary": "no answer", "facts": {"used": 4.0, "tags": ["a"]}},
        "disk": {"status": "unknown", "summary": "not seen", "facts": {}},
    },
    "steps": {"restart": {"status": "ok", "output": {"count": 2}}},
    "params": {"instance": "web1", "lines": 100, "big": 2**80},
    "target": {"name": "redis", "platform": "supervisor"},
}


ROOTS_HINT = "a condition can use evidence, params, steps, target, cost"
COMPARE = "compare it with a value, for example steps.restart.output.count > 3"


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("evidence.ping.ok == false", True),
        ("!evidence.ping.ok", True),
        ('evidence["ping"].status == "fail"', True),
        ("evidence.ping.facts.used == 4", True),
        ("evidence.ping.facts.used > 3.5 && steps.restart.output.count == 2", True),
        ('target.name == "redis" && target.platform != "docker"', True),
        ('params.instance.startsWith("web")', True),
        ('params.instance.matches("^web[0-9]$")', True),
        ("has(evidence.logs)", False),
        ("has(evidence.logs) && evidence.logs.ok", False),
        ("evidence.logs.ok || true", True),
        ("evidence.ping.facts.tags.exists(tag, tag == 'a')", True),
        ("params.big > 1", True),
        ("params.lines in [100, 200]", True),
    ],
)
def test_conditions_with_a_known_result(text: str, answer: bool) -> None:
    """A condition has the result of the CEL specification."""
    assert cel.compile(text).evaluate(SEEN) is answer


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("evidence.logs.ok", "there is no 'logs'"),
        ("!evidence.logs.ok", "there is no 'logs'"),
        ("evidence.disk.ok", "there is no 'ok'"),
        ("!evidence.disk.ok", "there is no 'ok'"),
        ("evidence.disk.ok && true", "there is no 'ok'"),
        ("evidence.ping.facts.used > 'a'", "these types cannot be combined"),
        ("!evidence.ping.summary", "these types cannot be combined"),
        ("evidence.ping.summary", "the condition is text, not true or false"),
        ("evidence.ping.facts", "the condition is a mapping, not true or false"),
        ("1 / (params.lines - 100) == 1", "divide by zero"),
    ],
)
@pytest.mark.promise(5)
def test_an_unknown_result_is_not_false(text: str, reason: str) -> None:
    """Missing evidence, incomparable values and results that are not booleans are unknown, with the reason."""
    answer = cel.compile(text).evaluate(SEEN)
    assert isinstance(answer, Unknown)
    assert reason in answer.reason


def test_unknown_cannot_be_used_as_a_boolean() -> None:
    """``if answer:`` raises an exception if the result is unknown."""
    with pytest.raises(TypeError):
        bool(Unknown("not seen"))


def test_missing_variables_count_as_empty() -> None:
    """A condition can be evaluated before any evidence exists."""
    assert isinstance(cel.compile("evidence.ping.ok").evaluate({}), Unknown)


@pytest.mark.parametrize(
    ("text", "column", "message", "hint"),
    [
        ("", 1, "the condition ends too early", ""),
        ("evidence.ping.ok &&", 20, "the condition ends too early", ""),
        ("evidence.ping.ok and true", 18, "unexpected 'and'", "write && instead of and"),
        ("not evidence.ping.ok", 5, "unexpected 'evidence'", "write ! instead of not"),
        ("evidence.ping.ok = true", 18, "unexpected '='", "write == to compare"),
        ("evidence.ping.ok == False", 21, "'False' is not CEL", "write false"),
        ("${instance} == 'a'", 1, "unexpected '$'", "conditions do not substitute parameters; write params.<name>"),
        ("'abc", 1, "this quote is not closed", ""),
        ("labels.severity == 'x'", 1, "unknown name 'labels'", ROOTS_HINT),
        ("evidence.my-check.ok", 10, "'-' in my-check means minus", 'write the name in brackets: ["my-check"]'),
        ("open('/etc/passwd')", 1, "unknown function 'open'", "use the functions of CEL only"),
        ("'a' + 'b'", 1, "the condition is text, not true or false", COMPARE),
        ("target.name == 1", 13, "'==' cannot be applied to (string, int)", "compare values of one type"),
        ("true ||\n  nope", 11, "unknown name 'nope'", ROOTS_HINT),
    ],
)
def test_an_error_has_its_column(text: str, column: int, message: str, hint: str) -> None:
    """An invalid condition is refused when the playbook is loaded."""
    with pytest.raises(ParseError) as refused:
        cel.compile(text)
    assert (refused.value.column, refused.value.message, refused.value.hint) == (column, message, hint)


def test_references_are_all_names_of_a_condition() -> None:
    """Lint compares the references with the declared names; strings and comments do not count."""
    text = """evidence.ping.ok && evidence["my-check"].facts.x == params . lines // evidence.no
        || steps.restart.status == "params.no" || size(evidence) > 0 || x.evidence.no"""
    condition = cel.compile(text.replace(" || x.evidence.no", ""))
    found = [(each.root, each.name, each.field) for each in condition.references]
    assert found == [
        ("evidence", "ping", "ok"),
        ("evidence", "my-check", "facts"),
        ("params", "lines", None),
        ("steps", "restart", "status"),
        ("evidence", None, None),
    ]
    assert condition.references[2].column == text.index("params . lines") + 1


@pytest.mark.promise(8)
@pytest.mark.parametrize(
    "text",
    [
        "(" * 500 + "true" + ")" * 500,
        "[" * 400 + "]" * 400 + " == []",
        "!" * 999 + "true",
        "true" + " && true" * 120,
        "x" * 5000,
        "{}[]!({" * 18,
    ],
)
def test_no_condition_crashes_the_process(text: str) -> None:
    """Deep, dense and long expressions are evaluated or refused, within the time limit of a test."""
    with contextlib.suppress(ParseError):
        cel.compile(text)


@pytest.mark.promise(8)
@pytest.mark.parametrize(
    "text",
    [
        "evidence.a.facts.l.map(x, evidence.a.facts.t).size() > 3",
        "evidence.a.facts.l.exists(x, (evidence.a.facts.t + evidence.a.facts.t).size() > 3)",
        "evidence.a.facts.l.all(x, evidence.a.facts.l.exists(y, [x] + [y] == []))",
        "evidence.a.facts.l . map ( x, x ) == []",
    ],
)
def test_memory_is_bounded(text: str) -> None:
    """A condition that creates text or lists in each iteration is refused, because the library would keep all of
    them."""
    with pytest.raises(ParseError, match="not allowed"):
        cel.compile(text)


@pytest.mark.parametrize("text", ["1 + 2 > 2", "evidence.a.facts.l.exists(x, x > 3) || (1 + 1) == 2", "'+' == '+'"])
def test_a_sum_outside_of_a_macro_is_allowed(text: str) -> None:
    """A sum outside of a macro is computed only once, so it is accepted."""
    assert cel.compile(text).evaluate({"evidence": {"a": {"facts": {"l": [1, 5]}}}}) is True


@pytest.mark.process
def test_work_is_bounded() -> None:
    """Nested loops end with an unknown result."""
    nine = "[1,2,3,4,5,6,7,8,9]"
    text = f"{nine}.all(a,{nine}.all(b,{nine}.all(c,{nine}.all(d,{nine}.all(e,{nine}.all(f,a*b*c*d*e*f>0))))))"
    assert isinstance(cel.compile(text).evaluate({}), Unknown)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["ping", "disk"]), JSON, max_size=2))
def test_no_evidence_breaks_an_evaluation(evidence: dict[str, Any]) -> None:
    """With any evidence, the result is true, false or unknown."""
    answer = cel.compile("evidence.ping.ok == true").evaluate({"evidence": evidence})
    assert isinstance(answer, bool | Unknown)


@pytest.mark.process
def test_the_library_is_loaded_only_for_a_condition() -> None:
    """A process without conditions does not load the library, which needs memory."""
    code = "import sys, remediator.playbooks.model; print('cel_expr_python' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert json.loads(said.strip().lower()) is False


@pytest.mark.parametrize(
    ("condition", "compared"),
    [
        ('evidence.a.ok == true && steps.b.status != "ok"', ["true", '"ok"']),
        ("params.x == -5", ["-5"]),
        ("params.x == 5 + 1", [None]),
        ("params.x == params.y", [None, None]),
        ('evidence.a.facts.role == "replica"', [None]),
        ("size(evidence.a.summary) == 3", [None]),
    ],
)
def test_a_comparison_with_a_literal_is_recognized(condition: str, compared: list[str | None]) -> None:
    """Only a comparison of a whole name with a whole literal counts; the value of a longer expression is not known."""
    assert [each.compared for each in cel.compile(condition).references] == compared
