"""Complete JSON Schemas: every property gets a title and an example.

An example comes from the field itself, from its default or allowed values, or from ``schema_examples.yaml``. The file
has one entry for each other field of the built-in models, as ``Model.field``, or ``*.field`` for all of one name.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from remediator.playbooks.catalogue import Catalogue

Schema = dict[str, Any]
_NO_EXAMPLE: tuple[Any, ...] = (None, "", [], {})
_FILE = Path(__file__).with_name("schema_examples.yaml")


@cache
def examples() -> dict[str, Any]:
    """Return the examples of the file, by model and field."""
    found: dict[str, Any] = yaml.safe_load(_FILE.read_text(encoding="utf-8"))
    return found


def annotate(kind: str, schema: Schema) -> None:
    """Add a title and an example to every property of a schema without them."""
    for path, name, prop in properties(kind, schema):
        # the generator drops a description that equals the description of the model
        if "description" not in prop and "$ref" in prop:
            prop["description"] = schema["$defs"][prop["$ref"].rpartition("/")[2]]["description"]
        prop.setdefault("title", name.replace("_", " ").capitalize() if name.islower() else name)
        example = _example(path, prop)
        if example is not None:
            prop.setdefault("examples", [example])


def properties(kind: str, schema: Schema) -> Iterator[tuple[str, str, Schema]]:
    """Yield path, name and schema of each property. The path is ``Model.field``; below the root, ``kind.field``."""
    yield from _properties(kind, schema)


def _properties(path: str, part: Any) -> Iterator[tuple[str, str, Schema]]:
    if isinstance(part, list):
        for item in part:
            yield from _properties(path, item)
    if not isinstance(part, dict):
        return
    for name, prop in part.get("properties", {}).items():
        if isinstance(prop, dict) and prop.keys() != {"const"}:  # part of a condition
            yield f"{path}.{name}", name, prop
            yield from _properties(f"{path}.{name}", prop)
    for name, definition in part.get("$defs", {}).items():
        yield from _properties(name, definition)
    for key in ("items", "anyOf", "additionalProperties"):
        yield from _properties(path, part.get(key))


def _example(path: str, prop: Schema) -> Any:
    """Return the example of this field; else its default, an allowed value, or the example of its name."""
    known = examples()
    for key in (path, path.replace("config.guards.", "Guards.")):
        if key in known:
            return known[key]
    if prop.get("default") not in _NO_EXAMPLE:
        return prop["default"]
    for part in (prop, *prop.get("anyOf", ())):
        if "const" in part:
            return part["const"]
        if part.get("enum"):
            return part["enum"][0]
        if part.get("type") == "boolean":
            return True
    for part in (prop, *prop.get("anyOf", ())):
        for name, inner in part.get("properties", {}).items():
            return {name: _example(f"{path}.{name}", inner)}
    return known.get(f"*.{path.rpartition('.')[2]}")


def valid_parameters(kind: str, name: str, catalogue: Catalogue, playbook: Schema) -> dict[str, Any]:
    """Return examples of the required parameters of an action or check, and of one more parameter if the model needs
    one of several.

    Args:
        kind: ``action`` or ``check``.
        name: the action or check.
        catalogue: has the model of its parameters.
        playbook: the JSON Schema of playbooks.
    """
    model = (catalogue.actions if kind == "action" else catalogue.checks)[name]
    found = playbook["$defs"].get(f"{kind} {name}", {}).get("properties", {})
    examples = {key: about["examples"][0] for key, about in found.items()}
    required = {key: examples[key] for key, field in model.model_fields.items() if field.is_required()}
    for more in ({}, *({key: value} for key, value in examples.items())):
        with suppress(ValidationError):
            model.model_validate({**required, **more})
            return {**required, **more}
    return required
