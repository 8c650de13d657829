"""Every key of every file has a title, a description and a valid example, for references and editors."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest

from remediator.authoring.json_schema import KINDS, schema
from remediator.authoring.schema_examples import examples, properties
from remediator.config import Config
from remediator.extensions.registry import Registry

SCHEMAS = {kind: schema(kind, Registry().catalogue(), Config) for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
def test_every_key_has_a_title_a_description_and_an_example(kind: str) -> None:
    """Every key has a title, a description and an example.

    If this fails: describe the field in its model, and add an example to authoring/schema_examples.yaml.
    """
    missing = [
        f"{path}: {key}"
        for path, _, prop in properties(kind, SCHEMAS[kind])
        for key in ("title", "description", "examples")
        if not prop.get(key)
    ]
    assert missing == []


@pytest.mark.parametrize("kind", KINDS)
def test_every_example_is_valid(kind: str) -> None:
    """The schema accepts its own examples."""
    root = SCHEMAS[kind]
    wrong = []
    for path, _, prop in properties(kind, root):
        whole: dict[str, Any] = {"allOf": [prop], "$defs": root.get("$defs", {})}
        for example in prop["examples"]:
            errors = [error.message for error in jsonschema.Draft7Validator(whole).iter_errors(example)]
            wrong += [f"{path}: {example!r}: {error}" for error in errors]
    assert wrong == []


def test_the_file_has_no_example_of_a_key_that_does_not_exist() -> None:
    """Every example in the file belongs to an existing key, so a renamed field needs its example renamed too."""
    paths = {path for kind, made in SCHEMAS.items() for path, _, _ in properties(kind, made)}
    names = {path.rpartition(".")[2] for path in paths}
    stale = [key for key in examples() if key not in paths and not (key.startswith("*.") and key[2:] in names)]
    assert stale == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_schema_has_an_id_a_title_and_a_description(kind: str) -> None:
    """Every schema has an ID, by which editors and registries identify it, a title and a description."""
    made = SCHEMAS[kind]
    assert made["$id"] == f"urn:remediator:schema:v1:{kind}"
    assert made["title"] and made["description"]


@pytest.mark.parametrize(
    ("settings", "valid"),
    [
        ({"channels": {"a": {"kind": "slack", "token_file": "x", "channel": "C1"}}}, True),
        ({"channels": {"a": {"kind": "slack", "token_file": "x", "chanel": "C1"}}}, False),
        ({"channels": {"a": {"kind": "slak"}}}, False),
        ({"channels": {"a": {"kind": "log"}}}, True),
        ({"guards": {"cooldown": "10m", "off": [{"guard": "ramp", "reason": "one target only"}]}}, True),
        ({"guards": {"coldown": "10m"}}, False),
        ({"guards": {"ramp": {"max_paralel": [1]}}}, False),
    ],
)
def test_an_editor_completes_channels_and_guards(settings: dict[str, Any], valid: bool) -> None:
    """The schema contains the settings of each kind of channel and of each guard."""
    head = {"apiVersion": "remediator/v1", "kind": "Config", "state": "s", "playbooks": ["p"], "inventory": "i"}
    assert jsonschema.Draft7Validator(SCHEMAS["config"]).is_valid({**head, **settings}) is valid
