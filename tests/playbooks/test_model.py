"""The words of a playbook: what they mean by default, what contradicts itself, and what makes a version."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from remediator.core.types import FieldErrors
from remediator.playbooks.model import Goto, Playbook

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


def test_the_least_playbook_asks_first() -> None:
    """What is not said is on the safe side: a person is asked, guards are on, nothing is done."""
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
def test_the_rung_depends_on_the_environment(mode: Any, environment: str, expected: str) -> None:
    """An environment that is not named gets the default, and without one people are asked."""
    assert made(mode=mode).mode_in(environment) == expected


def test_a_version_is_what_it_says_and_not_how() -> None:
    """Order of keys, shorthands and spelled-out defaults make no other version; any other word does."""
    one = Playbook.model_validate(FULL)
    reordered = Playbook.model_validate(dict(reversed(FULL.items())))
    spelled = Playbook.model_validate({**FULL, "match": {"alertname": ["A"], "matchers": []}, "summary": ""})
    other = Playbook.model_validate({**FULL, "mode": "auto"})
    assert one.content_hash == reordered.content_hash == spelled.content_hash
    assert one.content_hash != other.content_hash


def test_a_version_survives_the_store() -> None:
    """A run gets back the playbook that it began with, hash and all."""
    one = Playbook.model_validate(FULL)
    again = Playbook.model_validate(one.model_dump(mode="json", by_alias=True))
    assert again == one
    assert again.content_hash == one.content_hash


def test_the_file_is_no_part_of_the_version() -> None:
    """Moving a playbook does not change it."""
    moved = made()
    moved._source = "elsewhere/p.yaml"
    assert moved.source == "elsewhere/p.yaml"
    assert moved.content_hash == made().content_hash


def test_a_playbook_does_not_change_while_a_run_uses_it() -> None:
    """Its words are frozen."""
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
def test_what_contradicts_itself_is_refused_with_its_place(
    changes: dict[str, Any], place: tuple[Any, ...], message: str
) -> None:
    """Ids are unique, and a run only goes forward, so that it ends."""
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
def test_a_parameter_that_cannot_work_is_refused(parameter: dict[str, Any]) -> None:
    """One source, options that go with the type, defaults of the type."""
    with pytest.raises(ValidationError):
        made(parameters={"p": parameter})


def test_arrows_are_words_or_a_step() -> None:
    """on_failure takes a word or a goto."""
    playbook = Playbook.model_validate(FULL)
    assert playbook.steps[0].on_failure == Goto(goto="again")
    assert list(playbook.steps[0].gotos) == [("on_failure", "again")]
