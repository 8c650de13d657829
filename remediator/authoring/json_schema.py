"""Generate JSON Schemas for editors, from the models and from the actions, checks and guards of this installation.

The loader decides what is valid. The schema checks less (no services, no conditions), and refuses nothing that the
loader accepts.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any

from pydantic import BaseModel, TypeAdapter

from remediator.authoring import schema_examples
from remediator.authoring.testing.model import Suite
from remediator.core.clock import format_duration
from remediator.core.identity import People
from remediator.core.types import DURATION
from remediator.extensions.parameters import Parameters
from remediator.playbooks.catalogue import Catalogue, plain_field
from remediator.playbooks.facts import Fact
from remediator.playbooks.inventory import Inventory
from remediator.playbooks.model import Fragment, Include, Playbook
from remediator.playbooks.model import Guards as GuardSettings

Schema = dict[str, Any]
KINDS = ("playbook", "inventory", "config", "people", "test")
_LENGTH: TypeAdapter[timedelta] = TypeAdapter(timedelta)
_REFERENCE: Schema = {"type": "string", "pattern": r"^\$\{[^{}]+\}$", "description": "The value of a parameter."}


def schema(kind: str, catalogue: Catalogue, config: type[BaseModel]) -> Schema:
    """Return the schema of one kind of file.

    Args:
        kind: one of :data:`KINDS`.
        catalogue: the names that playbooks can use.
        config: the model of the settings file.
    """
    if kind == "playbook":
        return _document(kind, "A playbook, or a fragment that playbooks share.", _playbook_file(catalogue))
    if kind == "test":
        return _document(kind, "The tests of one playbook.", _schema_of(Suite))
    if kind == "people":
        return _document(kind, "The people who may decide.", _schema_of(People))
    if kind == "inventory":
        return _document(kind, "The services that can be targets of actions.", _inventory_file())
    return _document(kind, "The settings of remediator.", _settings_file(catalogue, config))


def text(schema_: Schema) -> str:
    """Return a schema as formatted JSON."""
    return json.dumps(schema_, indent=2, ensure_ascii=False, sort_keys=True) + "\n"


def _document(kind: str, description: str, made: Schema) -> Schema:
    head = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "$id": f"urn:remediator:schema:v1:{kind}",
        "title": f"remediator {kind}",
        "description": description,
    }
    schema_examples.annotate(kind, made)
    return {**made, **head}


def _schema_of(model: type[BaseModel]) -> Schema:
    cleaned: Schema = _clean(model.model_json_schema(by_alias=True))
    return cleaned


def _clean(part: Any) -> Any:
    """Remove parts that readers do not need: titles that repeat field names, and null, which the loader refuses."""
    if isinstance(part, list):
        return [_clean(item) for item in part]
    if not isinstance(part, dict):
        return part
    made = {key: _clean(value) for key, value in part.items() if not (key == "title" and isinstance(value, str))}
    if "default" in made and made["default"] is None:
        del made["default"]
    if "default" in made:
        made["default"] = _without_null(made["default"])
    if made.get("pattern") == DURATION and str(made.get("default", "")).startswith("P"):
        made["default"] = format_duration(_LENGTH.validate_python(made["default"]))
    options = [option for option in made.get("anyOf", ()) if option != {"type": "null"}]
    if "anyOf" in made and len(options) < len(part["anyOf"]):
        del made["anyOf"]
        made = {**options[0], **made} if len(options) == 1 else {**made, "anyOf": options}
    return made


def _without_null(value: Any) -> Any:
    """Remove the keys of a default whose value is null."""
    if isinstance(value, dict):
        return {key: _without_null(item) for key, item in value.items() if item is not None}
    return [_without_null(item) for item in value] if isinstance(value, list) else value


def _inventory_file() -> Schema:
    """Return the schema of the inventory. ``defaults`` may have the keys of a service."""
    made = _schema_of(Inventory)
    keys, shared = made["$defs"]["Service"]["properties"], made["$defs"].pop("Defaults")["properties"]
    del keys["name"], shared["name"]  # the name is set from the key
    made["properties"]["defaults"] = {
        "description": made["properties"]["defaults"]["description"],
        "type": "object",
        "propertyNames": {"enum": sorted(shared)},
        "properties": {key: value for key, value in shared.items() if key not in keys},
    }
    return made


def _settings_file(catalogue: Catalogue, config: type[BaseModel]) -> Schema:
    """Return the schema of the settings file, with the settings of each kind of channel and source, and each guard."""
    made = _schema_of(config)
    definitions = made["$defs"]
    _add_kinds("channel", "MessageChannel", catalogue.notifiers, definitions)
    _add_kinds("source", "SourceSettings", catalogue.sources, definitions)
    guards = made["properties"]["guards"]
    off = _hoist(_schema_of(GuardSettings), definitions)["properties"]["off"]
    guards["properties"] = {"off": off}
    _add_guards(guards, catalogue, definitions)
    return made


def _add_kinds(noun: str, name: str, models: Mapping[str, type[BaseModel]], definitions: Schema) -> None:
    """Add the settings of each kind to the definitions that have a kind."""
    definition = definitions[name]
    kinds = sorted(models)
    definition["properties"]["kind"]["enum"] = kinds
    for kind in kinds:
        settings = _hoist(_schema_of(models[kind]), definitions)
        definitions[f"{noun} {kind}"] = settings
        names = {key: True for key in (*definition["properties"], *settings.get("properties", {}))}
        definition.setdefault("allOf", []).append(
            {
                "if": {"properties": {"kind": {"const": kind}}, "required": ["kind"]},
                "then": {"allOf": [_ref(f"{noun} {kind}")], "properties": names, "additionalProperties": False},
            }
        )
        settings.pop("additionalProperties", None)  # "kind" is beside the settings


def _playbook_file(catalogue: Catalogue) -> Schema:
    playbook, fragment, include = _schema_of(Playbook), _schema_of(Fragment), _schema_of(Include)
    definitions = {**playbook.pop("$defs"), **fragment.pop("$defs"), "Include": include}
    definitions |= {"Playbook": playbook, "Fragment": fragment}
    for each in (playbook, fragment):
        for section, item in (("diagnose", "Diagnosis"), ("steps", "Step")):
            each["properties"][section]["items"] = {"anyOf": [_ref(item), _ref("Include")]}
    playbook["properties"]["use"] = {
        "description": "Fragments whose values are defaults of this playbook. Its own lists replace theirs.",
        "anyOf": [{"type": "array", "items": {"type": "string"}}, {"type": "string"}],
    }
    # the known names: actions and checks with their parameters, guards with their settings
    traits = {name: catalogue.traits_of(name) for name in catalogue.actions}
    actions = {name: _with_facts(each.summary, each.facts) for name, each in traits.items()}
    reading = {name: text for name, text in actions.items() if not traits[name].mutates}
    checks = {
        name: _with_facts(catalogue.summaries.get(name, ""), catalogue.check_facts.get(name, ()))
        for name in catalogue.checks
    }
    for kind, models in (("action", catalogue.actions), ("check", catalogue.checks)):
        for name, model in models.items():
            definitions[f"{kind} {name}"] = _with(model, definitions)
    for place, key, names in (
        ("Step", "action", actions),
        ("Undo", "action", actions),
        ("Diagnosis", "action", reading),
        ("Diagnosis", "check", checks),
        ("CheckCall", "check", checks),
    ):
        _limit_to_names(definitions[place], key, names)
    _add_guards(definitions["Guards"], catalogue, definitions)
    is_fragment = {"properties": {"kind": {"const": "Fragment"}}, "required": ["kind"]}
    return {"if": is_fragment, "then": _ref("Fragment"), "else": _ref("Playbook"), "$defs": definitions}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/$defs/{name}"}


def _with_facts(summary: str, facts: Iterable[Fact]) -> str:
    """Return a summary with the facts, which editors show when they complete the name."""
    shown = [f"{fact.name} ({' | '.join(fact.values) or fact.type})" for fact in facts]
    return f"{summary} Facts: {', '.join(shown)}." if shown else summary


def _limit_to_names(definition: Schema, key: str, names: Mapping[str, str]) -> None:
    """Limit a key to known names, and ``with`` to the parameters of the name."""
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
    """Return the schema of a ``with`` block: its model, where every value can be a reference to a parameter."""
    made = _hoist(_schema_of(model), definitions)
    made["properties"] = {name: _or_reference(each) for name, each in made.get("properties", {}).items()}
    if model is Parameters:  # the docstring of the base class is about the code
        made["description"] = "No parameters."
    return made


def _or_reference(made: Schema) -> Schema:
    if made.get("type") == "string" and not {"enum", "pattern", "format"} & made.keys():
        return made
    description = {"description": made["description"]} if "description" in made else {}
    default = {"default": made["default"]} if "default" in made else {}
    plain = {key: value for key, value in made.items() if key not in ("description", "default")}
    return {**description, **default, "anyOf": [plain, _REFERENCE]}


def _add_guards(guards: Schema, catalogue: Catalogue, definitions: Schema) -> None:
    """Add the settings of each guard: a mapping, or a plain value for one of its fields."""
    guards["additionalProperties"] = False
    for name, model in catalogue.guards.items():
        made = _hoist(_schema_of(model), definitions)
        made["description"] = catalogue.summaries.get(name, "")
        plain = plain_field(model)
        if plain is not None:
            made = {"description": made["description"], "anyOf": [made["properties"][plain], made]}
        guards["properties"][name] = made


def _hoist(made: Schema, definitions: Schema) -> Schema:
    """Move the definitions of a schema to the definitions of the file."""
    for name, definition in made.pop("$defs", {}).items():
        definitions.setdefault(name, definition)
    return made


def committed(kinds: Iterable[str], catalogue: Catalogue, config: type[BaseModel]) -> dict[str, str]:
    """Return file name and content of each schema, as in ``docs/schema``."""
    return {f"{kind}.json": text(schema(kind, catalogue, config)) for kind in kinds}
