"""Parameters: labels enter a playbook only through declared, validated values, and always stay data."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remediator.errors import InputError
from remediator.playbooks.inventory import Inventory
from remediator.playbooks.model import Playbook
from remediator.playbooks.parameters import resolve, target
from remediator.playbooks.references import references, substitute, substitute_all

INVENTORY = Inventory.model_validate(
    {
        "apiVersion": "remediator/v1",
        "kind": "Inventory",
        "services": {
            name: {"platform": {"kind": "supervisor", "url": "unix:///s.sock", "program": name}}
            for name in ("redis", "app")
        },
    }
)


def playbook(target: str = "redis", **parameters: Any) -> Playbook:
    """Return a playbook with this target and these parameters."""
    return Playbook.model_validate(
        {
            "apiVersion": "remediator/v1",
            "kind": "Playbook",
            "name": "p",
            "match": {"alertname": "A"},
            "target": target,
            "parameters": parameters,
        }
    )


def value(declared: dict[str, Any], **labels: str) -> Any:
    """Return the value of one parameter for these labels."""
    return resolve(playbook(p=declared), labels, INVENTORY)["p"]


@pytest.mark.parametrize(
    ("declared", "given_", "expected"),
    [
        ({"type": "string"}, "web-1:9100", "web-1:9100"),
        ({"type": "string", "pattern": "[a-z]+"}, "abc", "abc"),
        ({"type": "integer"}, "-7", -7),
        ({"type": "integer", "minimum": 1, "maximum": 3}, "3", 3),
        ({"type": "number"}, "2.50", 2.5),
        ({"type": "boolean"}, "true", True),
        ({"type": "duration"}, "1h30m", "1h30m"),
        ({"type": "service"}, "app", "app"),
        ({"type": "string", "enum": ["a", "b"]}, "b", "b"),
        ({"type": "integer", "enum": [1, 2]}, "2", 2),
    ],
)
def test_a_label_becomes_a_typed_value(declared: dict[str, Any], given_: str, expected: Any) -> None:
    """Each type has its own syntax."""
    found = value({"label": "l", **declared}, l=given_)
    assert (found, type(found)) == (expected, type(expected))


@pytest.mark.promise(8)
@pytest.mark.parametrize(
    ("declared", "given_", "rule"),
    [
        ({"type": "string"}, "a\nb", "contains control characters"),
        ({"type": "string"}, "a\x00b", "contains control characters"),
        ({"type": "string"}, "a\u202eb", "contains control characters"),
        ({"type": "string"}, "--config=/etc/shadow", "begins with '-'"),
        ({"type": "string"}, "-rf", "begins with '-'"),
        ({"type": "string"}, "x" * 201, "has 201 characters; the limit is 200"),
        ({"type": "string", "pattern": "[a-z]+"}, "abc; rm -rf /", "does not match [a-z]+"),
        ({"type": "string", "pattern": "[a-z]+"}, "abc\n", "contains control characters"),
        ({"type": "string", "enum": ["a"]}, "A", "is not one of a"),
        ({"type": "integer"}, "1e3", "is not an integer"),
        ({"type": "integer"}, " 1", "is not an integer"),
        ({"type": "integer"}, "1_000", "is not an integer"),
        ({"type": "integer"}, "٣", "is not an integer"),
        ({"type": "integer"}, "010", "is not an integer"),
        ({"type": "integer"}, "9" * 30, "is not an integer"),
        ({"type": "integer", "minimum": 1}, "0", "is less than 1"),
        ({"type": "number"}, "nan", "is not a number"),
        ({"type": "number"}, "inf", "is not a number"),
        ({"type": "number", "maximum": 1}, "1.1", "is greater than 1"),
        ({"type": "boolean"}, "yes", "is neither true nor false"),
        ({"type": "duration"}, "5 minutes", "is not a duration"),
        ({"type": "duration"}, "9" * 30 + "y", "is not a duration"),
        ({"type": "service"}, "database", "is not a service of the inventory"),
        ({"type": "service"}, "../redis", "is not a service of the inventory"),
    ],
)
def test_an_invalid_label_is_refused_with_the_reason(declared: dict[str, Any], given_: str, rule: str) -> None:
    """The error names parameter, label, value and reason, in one line."""
    with pytest.raises(InputError) as refused:
        value({"label": "l", **declared}, l=given_)
    assert str(refused.value).startswith("parameter p: label l='")
    assert rule in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_long_value_is_shortened_in_the_error() -> None:
    """A label with ten thousand characters does not fill the log."""
    with pytest.raises(InputError) as refused:
        value({"label": "l"}, l="x" * 10_000)
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize("labels", [{}, {"l": ""}])
def test_a_missing_label_uses_the_default_or_is_an_error(labels: dict[str, str]) -> None:
    """An empty label counts as missing, as in Prometheus."""
    assert value({"label": "l", "default": "d"}, **labels) == "d"
    with pytest.raises(InputError, match="the alert has no label 'l', and the parameter has no default"):
        value({"label": "l"}, **labels)


def test_labels_do_not_change_a_constant() -> None:
    """A constant has the value of the playbook, whatever labels the alert has."""
    assert value({"value": 5, "type": "integer"}, p="7", value="8") == 5


@pytest.mark.promise(8)
def test_the_target_is_a_service_of_the_inventory() -> None:
    """A label can select a service only through a parameter, and only a service of the inventory."""
    chosen = playbook("${s}", s={"label": "service", "type": "service"})
    assert target(chosen, resolve(chosen, {"service": "app"}, INVENTORY), INVENTORY) == "app"
    with pytest.raises(InputError):
        resolve(chosen, {"service": "evil"}, INVENTORY)


def test_references_are_replaced_at_any_depth() -> None:
    """References in strings, lists and mappings are replaced; a string that is only a reference gets the type of its
    parameter."""
    given_ = {"lines": "${n}", "names": ["a-${s}", {"x": "$${s} ${s}"}], "flag": True}
    assert substitute(given_, {"n": 5, "s": "web"}) == {
        "lines": 5,
        "names": ["a-web", {"x": "${s} web"}],
        "flag": True,
    }
    assert sorted(references(given_)) == ["n", "s", "s"]


def test_an_undeclared_reference_is_an_error() -> None:
    """A reference to an undeclared parameter is an error and never stays in the text."""
    with pytest.raises(InputError, match=r"unknown parameter \$\{b\}"):
        substitute("${a}${b}", {"a": 1})


@pytest.mark.promise(8)
@given(st.text(max_size=30), st.text(max_size=30))
def test_inserted_values_are_not_parsed_again(first: str, second: str) -> None:
    """A value that looks like a reference, a template or a shell command stays text."""
    values = {"a": f"{first}${{b}}{{{{ 7*7 }}}}$(id)`id`", "b": second}
    assert substitute("x ${a} y", values) == f"x {values['a']} y"
    assert substitute("${a}", values) == values["a"]


@pytest.mark.promise(8)
@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ('up{instance="${v}"}', 'up{instance="a\\x22} or vector(1) #"}'),
        ("up{instance='${v}'}", "up{instance='a\\x22} or vector(1) #'}"),
        ('up{instance=~"${v}"}', 'up{instance=~"a\\x22\\\\} or vector\\\\(1\\\\) #"}'),
        ('up{instance!~"x${v}"}', 'up{instance!~"xa\\x22\\\\} or vector\\\\(1\\\\) #"}'),
    ],
)
def test_a_value_cannot_leave_its_string_in_promql(query: str, expected: str) -> None:
    """Quotes and backslashes are escaped; in a pattern, the value matches only itself."""
    assert substitute(query, {"v": 'a"} or vector(1) #'}, promql=True) == expected


@pytest.mark.promise(8)
@given(st.text(st.characters(codec="utf-8", exclude_categories=("Cc",)), max_size=20))
def test_no_value_changes_the_structure_of_promql(text: str) -> None:
    """Whatever the label, the query has the same strings at the same places."""
    query = substitute('a{x="${v}",y="b"} > 1', {"v": text}, promql=True)
    inside = query.removeprefix('a{x="').removesuffix('",y="b"} > 1')
    assert '"' not in inside
    assert "\n" not in inside
    assert not (len(inside) - len(inside.rstrip("\\"))) % 2


@pytest.mark.promise(8)
def test_only_numbers_and_durations_are_allowed_outside_of_quotes() -> None:
    """Outside of quotes, a parameter of another type is refused."""
    assert substitute("rate(a[${w}]) > ${n}", {"w": "5m", "n": 3}, promql=True) == "rate(a[5m]) > 3"
    for evil in ("a or b", "5m]) or vector(1", True):
        with pytest.raises(InputError, match="only inside quotes"):
            substitute("rate(a[${w}])", {"w": evil}, promql=True)
    with pytest.raises(InputError, match="backticks"):
        substitute("a{x=`${w}`}", {"w": "v"}, promql=True)


def test_only_the_query_of_a_check_is_promql() -> None:
    """Other parameters of the check are inserted without escapes."""
    found = substitute_all({"query": 'a{x="${v}"}', "note": '"${v}"'}, {"v": '"'}, promql=True)
    assert found == {"query": 'a{x="\\x22"}', "note": '"""'}


@pytest.mark.parametrize(
    "query",
    [
        'up{job=~ # a comment between operator and string\n "${v}"}',
        "up # it's a quote in a comment\n{job=~\"${v}\"} # and it's another",
        'up{job="a"} # "\n or up{job=~"${v}"} # "',
    ],
)
def test_a_comment_does_not_change_how_a_value_is_escaped(query: str) -> None:
    """A value in a pattern matches only itself, whatever comments and quotes come before it."""
    assert '"\\\\.\\\\*"' in substitute(query, {"v": ".*"}, promql=True)


def test_a_reference_in_a_comment_stays() -> None:
    """A reference in a comment is not replaced."""
    assert substitute("up # ${v}", {"v": "x\n or vector(1)"}, promql=True) == "up # ${v}"
