"""The JSON Schemas are current and valid, agree with the loader, and explain every key."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from click.testing import CliRunner

from remediator.authoring.json_schema import KINDS, committed, schema
from remediator.cli.playbook import schema as command
from remediator.config import Config
from remediator.extensions.registry import Registry
from tests.authoring.lint.catalogue import CATALOGUE
from tests.authoring.lint.mistakes import FOLDER, WORLD

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = schema("playbook", CATALOGUE, Config)
JUDGE = jsonschema.Draft7Validator(SCHEMA)
BASE = yaml.safe_load((WORLD / "redis-down.yaml").read_text(encoding="utf-8"))


def complaints(content: Any) -> list[str]:
    return [error.message for error in JUDGE.iter_errors(content)]


@pytest.mark.parametrize("kind", KINDS)
def test_the_committed_schemas_are_current(kind: str) -> None:
    """The committed schemas are current.

    If this fails: python -m remediator playbook schema --output-dir docs/schema
    """
    made = committed([kind], Registry().catalogue(), Config)
    for name, content in made.items():
        assert (ROOT / "docs" / "schema" / name).read_text(encoding="utf-8") == content


@pytest.mark.parametrize("kind", KINDS)
def test_a_schema_is_valid(kind: str) -> None:
    """Every schema conforms to JSON Schema draft 7."""
    jsonschema.Draft7Validator.check_schema(schema(kind, Registry().catalogue(), Config))


@pytest.mark.parametrize("path", sorted((ROOT / "playbooks").glob("*.yaml")), ids=lambda path: path.name)
def test_shipped_playbooks_and_tests_pass_and_name_their_schema(path: Path) -> None:
    """Shipped playbooks and tests are valid by their schema, so an editor shows no false errors."""
    kind = "test" if path.name.endswith(".test.yaml") else "playbook"
    text = path.read_text(encoding="utf-8")
    judge = jsonschema.Draft7Validator(schema(kind, Registry().catalogue(), Config))
    assert [error.message for error in judge.iter_errors(yaml.safe_load(text))] == []
    assert text.startswith(f"# yaml-language-server: $schema=../docs/schema/{kind}.json\n")


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"use": ["defaults"]},
        {"use": "defaults"},
        {"mode": "auto"},
        {"match": {"alertname": ["A", "B"]}},
        {"guards": {"cooldown": "5m", "rate_limit": ["3/1h"], "preconditions": [{"check": "redis.ping"}]}},
        {"guards": {"cooldown": {"period": "5m"}, "preconditions": {"all_of": []}}},
        {"diagnose": [{"include": "general"}, {"id": "a", "check": "redis.ping"}]},
        {"diagnose": [{"id": "a", "action": "service.logs", "with": {"lines": "${lines}"}}]},
        {"steps": [{"id": "a", "action": "service.restart", "on_failure": {"goto": "b"}}, {"include": "more"}]},
    ],
)
def test_valid_files_pass(changes: dict[str, Any]) -> None:
    """The schema accepts shorthands, fragments, and parameters in place of numbers."""
    assert complaints({**BASE, **changes}) == []


def test_a_fragment_passes() -> None:
    """The schema of playbooks accepts fragments."""
    head = {"apiVersion": "remediator/v1", "kind": "Fragment", "name": "f"}
    assert complaints({**head, "diagnose": [{"id": "a", "check": "redis.ping"}]}) == []
    assert complaints({**head, "target": "redis"})


@pytest.mark.parametrize(
    "case",
    [
        "unknown-key-top",
        "unknown-key-step",
        "unknown-key-with",
        "unknown-key-parameter",
        "unknown-action-typo",
        "unknown-check-typo",
        "unknown-guard-typo",
        "missing-key-target",
        "missing-key-with",
        "missing-key-step-action",
        "not-read-only",
        "wrong-type-text-for-list",
        "wrong-type-word-for-number",
        "wrong-type-quoted-true",
        "wrong-value-mode",
        "wrong-value-policy",
        "wrong-value-on-failure",
        "wrong-value-quorum-zero",
        "wrong-value-duration-words",
        "wrong-value-duration-no-unit",
        "wrong-value-name",
        "no-value-when",
    ],
)
def test_an_editor_shows_common_errors(case: str) -> None:
    """The schema refuses common errors that the loader refuses, so an editor shows them."""
    assert complaints(yaml.safe_load((FOLDER / case / "redis-down.yaml").read_text(encoding="utf-8")))


def undescribed(made: Any, path: str = "") -> list[str]:
    """Return the paths of properties without a description."""
    found = []
    if isinstance(made, dict):
        for name, each in made.get("properties", {}).items():
            if isinstance(each, dict) and not each.keys() & {"description", "const", "$ref"}:
                found.append(f"{path}.{name}")
        for name, each in made.items():
            found += undescribed(each, f"{path}.{name}")
    if isinstance(made, list):
        for each in made:
            found += undescribed(each, path)
    return found


def test_every_key_of_a_playbook_is_explained() -> None:
    """Every key has a description, because editors show it."""
    definitions = {name: made for name, made in SCHEMA["$defs"].items() if " " not in name}
    missing = [path for path in undescribed(definitions) if ".with" not in path]
    assert not [path for path in missing if ".if." not in path and ".then." not in path]


def test_the_command_prints_and_writes(tmp_path: Path) -> None:
    """The command prints one schema or writes all schemas to a folder. Without a choice it fails."""
    runner = CliRunner()
    printed = runner.invoke(command, ["inventory"])
    assert json.loads(printed.output)["$defs"]["Service"]["properties"].keys() >= {"platform", "depends_on"}
    assert runner.invoke(command, ["--output-dir", str(tmp_path / "schema")]).exit_code == 0
    assert {path.name for path in (tmp_path / "schema").iterdir()} == {f"{kind}.json" for kind in KINDS}
    assert runner.invoke(command, []).exit_code == 2
