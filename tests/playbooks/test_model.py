"""The playbook model: defaults, contradictions, and the hash of a version."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from remediator.core.types import FieldErrors
from remediator.playbooks.model import Playbook
from remediator.playbooks.steps import Goto

LEAST: dict[str, Any] = {
    "apiVersion": "remediator/v1",
    "kind": "Playbook",
    "name": "p",
    "match": {"alertname": "A"},
    "target": "redis",
}
FULL: dict[str, Any] = {
    **LEAST,
    "mode": {"default": "approve", "demo": "auto"},
    "parameters": {"lines": {"label": "lines", "type": "integer", "default": 10}},
    "guards": {"cooldown": "5m", "off": [{"guard": "storm", "reason": "one instance only"}]},
    "diagnose": [{"id": "ping", "check": "redis.ping"}],
    "steps": [
        {
            "id": "restart",
            "action": "service.restart",
            "with": {"stop_timeout": "10s"},
            "timeout": "1m30s",
            "when": "!evidence.ping.ok",
            "on_failure": {"goto": "again"},
            "undo": {"action": "service.stop", "after": "30m"},
        },
        {"id": "again", "action": "service.restart"},
    ],
    "verify": {"settle": "250ms", "checks": [{"check": "promql", "with": {"query": "up == 1"}}]},
}


def made(**changes: Any) -> Playbook:
    return Playbook.model_validate({**LEAST, **changes})


def test_the_defaults_are_safe() -> None:
    """A minimal playbook needs an approval, has all guards active, and does nothing."""
    least = made()
    assert least.mode_in("production") == "approve"
    assert least.guards.off == ()
    assert least.approval.expires == timedelta(minutes=15)
    assert least.steps == ()


@pytest.mark.parametrize(
    ("mode", "environment", "expected"),
    [
        ("auto", "anywhere", "auto"),
        ({"demo": "auto"}, "demo", "auto"),
        ({"demo": "auto"}, "production", "approve"),
        ({"default": "observe", "demo": "auto"}, "production", "observe"),
    ],
)
def test_the_mode_depends_on_the_environment(mode: Any, environment: str, expected: str) -> None:
    """An environment that is not listed has the default mode; without a default, the mode is ``approve``."""
    assert made(mode=mode).mode_in(environment) == expected


def test_the_hash_covers_the_content_only() -> None:
    """The order of keys, shorthands and explicit defaults do not change the hash; other content does."""
    one = Playbook.model_validate(FULL)
    reordered = Playbook.model_validate(dict(reversed(FULL.items())))
    spelled = Playbook.model_validate({**FULL, "match": {"alertname": ["A"], "matchers": []}, "summary": ""})
    other = Playbook.model_validate({**FULL, "mode": "auto"})
    assert one.content_hash == reordered.content_hash == spelled.content_hash
    assert one.content_hash != other.content_hash


def test_the_hash_survives_the_store() -> None:
    """A run reads the same playbook version from the store that it started with."""
    one = Playbook.model_validate(FULL)
    again = Playbook.model_validate(one.model_dump(mode="json", by_alias=True))
    assert again == one
    assert again.content_hash == one.content_hash


def test_the_file_does_not_change_the_hash() -> None:
    """The path of the file is not part of the hash."""
    moved = made()
    moved._source = "elsewhere/p.yaml"
    assert moved.source == "elsewhere/p.yaml"
    assert moved.content_hash == made().content_hash


def test_a_playbook_does_not_change_while_a_run_uses_it() -> None:
    """The model is immutable."""
    with pytest.raises(ValidationError, match="frozen"):
        made().target = "app"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("changes", "place", "message"),
    [
        ({"steps": [{"id": "a", "action": "x"}, {"id": "a", "action": "x"}]}, ("steps", 1, "id"), "duplicate ID 'a'"),
        (
            {"diagnose": [{"id": "a", "check": "x"}], "steps": [{"id": "a", "action": "x"}]},
            ("steps", 0, "id"),
            "a diagnosis has the same ID",
        ),
        (
            {"steps": [{"id": "a", "action": "x", "on_failure": {"goto": "b"}}]},
            ("steps", 0, "on_failure", "goto"),
            "unknown step 'b'",
        ),
        (
            {"steps": [{"id": "a", "action": "x"}, {"id": "b", "action": "x", "on_success": {"goto": "a"}}]},
            ("steps", 1, "on_success", "goto"),
            "goes back",
        ),
    ],
)
def test_contradictions_are_refused_with_their_place(
    changes: dict[str, Any], place: tuple[Any, ...], message: str
) -> None:
    """IDs are unique, and a run only moves forward, so it ends. Errors have their place."""
    with pytest.raises(ValidationError) as refused:
        made(**changes)
    (error,) = refused.value.errors()
    found = error["ctx"]["error"]
    assert isinstance(found, FieldErrors)
    (field_error,) = found.errors
    assert field_error.path == place
    assert message in field_error.message


@pytest.mark.parametrize(
    "parameter",
    [
        {},
        {"label": "a", "value": "b"},
        {"value": "b", "default": "c"},
        {"label": "a", "type": "integer", "pattern": "x"},
        {"label": "a", "minimum": 1},
        {"label": "a", "type": "integer", "minimum": 3, "maximum": 1},
        {"label": "a", "type": "integer", "default": "no"},
        {"label": "a", "type": "boolean", "default": "false"},
        {"label": "a", "type": "duration", "default": "soon"},
        {"label": "a", "type": "duration", "default": "99999999999999y"},
        {"label": "a", "type": "duration", "default": "9" * 5000 + "s"},
        {"label": "a", "type": "integer", "enum": [1, "two"]},
        {"label": "a", "pattern": "("},
        {"label": ""},
    ],
)
def test_an_invalid_parameter_is_refused(parameter: dict[str, Any]) -> None:
    """A parameter has exactly one source, and its options and defaults match its type."""
    with pytest.raises(ValidationError):
        made(parameters={"p": parameter})


def test_on_failure_is_a_fixed_value_or_a_goto() -> None:
    """``on_failure`` accepts its fixed values or a ``goto``, and nothing else."""
    playbook = Playbook.model_validate(FULL)
    assert playbook.steps[0].on_failure == Goto(goto="again")
    assert list(playbook.steps[0].gotos) == [("on_failure", "again")]
