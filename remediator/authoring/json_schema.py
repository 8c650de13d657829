"""JSON Schema for editors, made from the models and from what this installation offers: completion, and explanations.

The loader stays the judge: the schema knows less (no names of services, no conditions), and nothing that it refuses is
accepted there.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any

from pydantic import BaseModel, TypeAdapter

from remediator.authoring.testing.model import Suite
from remediator.core.clock import format_duration
from remediator.core.types import DURATION
from remediator.playbooks.catalogue import Catalogue, plain_field
from remediator.playbooks.inventory import Inventory
from remediator.playbooks.model import Fragment, Include, Playbook

Schema = dict[str, Any]
KINDS = ("playbook", "inventory", "config", "test")
_LENGTH: TypeAdapter[timedelta] = TypeAdapter(timedelta)
_REFERENCE: Schema = {"type": "string", "pattern": r"^\$\{[^{}]+\}$", "description": "A parameter's value."}


def schema(kind: str, catalogue: Catalogue, config: type[BaseModel]) -> Schema:
    """The schema of one kind of file, of :data:`KINDS`.

    Args:
        kind: of which file.
        catalogue: what playbooks may name.
        config: the model of the settings file.
    """
    if kind == "playbook":
        return _headed("A playbook, or a fragment that playbooks share.", _playbook_file(catalogue))
    if kind == "test":
        return _headed("Tests of one playbook.", _of(Suite))
    if kind == "inventory":
        return _headed("The services that actions may touch.", _inventory_file())
    return _headed("The settings of one remediator.", _of(config))


def text(made: Schema) -> str:
    """A schema as it is committed."""
    return json.dumps(made, indent=2, ensure_ascii=False, sort_keys=True) + "\n"


def _headed(description: str, made: Schema) -> Schema:
    return {"$schema": "http://json-schema.org/draft-07/schema#", **made, "description": description}


def _of(model: type[BaseModel]) -> Schema:
    cleaned: Schema = _cleaned(model.model_json_schema(by_alias=True))
    return cleaned


def _cleaned(part: Any) -> Any:
    """Without what a reader does not need: titles made from field names, and null, which the loader does not take."""
    if isinstance(part, list):
        return [_cleaned(item) for item in part]
    if not isinstance(part, dict):
        return part
    made = {key: _cleaned(value) for key, value in part.items() if not (key == "title" and isinstance(value, str))}
    if "default" in made and made["default"] is None:
        del made["default"]
    if made.get("pattern") == DURATION and str(made.get("default", "")).startswith("P"):
        made["default"] = format_duration(_LENGTH.validate_python(made["default"]))
    options = [option for option in made.get("anyOf", ()) if option != {"type": "null"}]
    if "anyOf" in made and len(options) < len(part["anyOf"]):
        del made["anyOf"]
        made = {**options[0], **made} if len(options) == 1 else {**made, "anyOf": options}
    return made


def _inventory_file() -> Schema:
    made = _of(Inventory)
    del made["$defs"]["Service"]["properties"]["name"]  # comes from the key
    return made


def _playbook_file(catalogue: Catalogue) -> Schema:
    playbook, fragment, include = _of(Playbook), _of(Fragment), _of(Include)
    definitions = {**playbook.pop("$defs"), **fragment.pop("$defs"), "Include": include}
    definitions |= {"Playbook": playbook, "Fragment": fragment}
    for each in (playbook, fragment):
        for section, item in (("diagnose", "Diagnosis"), ("steps", "Step")):
            each["properties"][section]["items"] = {"anyOf": [_ref(item), _ref("Include")]}
    playbook["properties"]["use"] = {
        "description": "Fragments that are merged under this playbook; what it says itself wins, lists as a whole.",
        "anyOf": [{"type": "array", "items": {"type": "string"}}, {"type": "string"}],
    }
    _offer(definitions, catalogue)
    is_fragment = {"properties": {"kind": {"const": "Fragment"}}, "required": ["kind"]}
    return {"if": is_fragment, "then": _ref("Fragment"), "else": _ref("Playbook"), "$defs": definitions}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/$defs/{name}"}


def _offer(definitions: Schema, catalogue: Catalogue) -> None:
    """Put in what there is to name: actions and checks with their ``with``, guards with their settings."""
    actions = {name: catalogue.traits_of(name).summary for name in catalogue.actions}
    reading = {name: text for name, text in actions.items() if not catalogue.traits_of(name).mutates}
    checks = {name: catalogue.summaries.get(name, "") for name in catalogue.checks}
    for name, model in catalogue.actions.items():
        definitions[f"action {name}"] = _with(model, definitions)
    for name, model in catalogue.checks.items():
        definitions[f"check {name}"] = _with(model, definitions)
    for place, key, names in (
        ("Step", "action", actions),
        ("Undo", "action", actions),
        ("Diagnosis", "action", reading),
        ("Diagnosis", "check", checks),
        ("CheckCall", "check", checks),
    ):
        _name(definitions[place], key, names)
    guards = definitions["Guards"]
    guards["additionalProperties"] = False
    for name, model in catalogue.guards.items():
        guards["properties"][name] = _guard(model, catalogue.summaries.get(name, ""), definitions)


def _name(definition: Schema, key: str, names: Mapping[str, str]) -> None:
    """Offer names for a key, and for each of them its own ``with``."""
    old = definition["properties"][key]
    choices = [{"const": name, "description": text} for name, text in sorted(names.items())]
    definition["properties"][key] = {"description": old.get("description", ""), "anyOf": choices}
    definition.setdefault("allOf", []).extend(
        {
            "if": {"properties": {key: {"const": name}}, "required": [key]},
            "then": {"properties": {"with": _ref(f"{key} {name}")}},
        }
        for name in sorted(names)
    )


def _with(model: type[BaseModel], definitions: Schema) -> Schema:
    """A ``with`` block: as its model, and every value may come from a parameter."""
    made = _hoisted(_of(model), definitions)
    made["properties"] = {name: _or_reference(each) for name, each in made.get("properties", {}).items()}
    return made


def _or_reference(made: Schema) -> Schema:
    if made.get("type") == "string" and not {"enum", "pattern", "format"} & made.keys():
        return made
    description = {"description": made["description"]} if "description" in made else {}
    default = {"default": made["default"]} if "default" in made else {}
    plain = {key: value for key, value in made.items() if key not in ("description", "default")}
    return {**description, **default, "anyOf": [plain, _REFERENCE]}


def _guard(model: type[BaseModel], summary: str, definitions: Schema) -> Schema:
    """A guard's settings: a mapping, or the plain value that stands for one of its fields."""
    made = _hoisted(_of(model), definitions)
    made["description"] = summary
    plain = plain_field(model)
    if plain is None:
        return made
    return {"description": summary, "anyOf": [made["properties"][plain], made]}


def _hoisted(made: Schema, definitions: Schema) -> Schema:
    """With its own definitions moved to the file's."""
    for name, definition in made.pop("$defs", {}).items():
        definitions.setdefault(name, definition)
    return made


def committed(kinds: Iterable[str], catalogue: Catalogue, config: type[BaseModel]) -> dict[str, str]:
    """File name and content of each schema, as ``docs/schema`` has them."""
    return {f"{kind}.json": text(schema(kind, catalogue, config)) for kind in kinds}
