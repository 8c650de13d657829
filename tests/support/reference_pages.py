"""Generate the reference sections of docs/ from the code: ``python -m tests.support.reference_pages``."""

from __future__ import annotations

import inspect
import re
import sys
import textwrap
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from remediator.authoring.json_schema import schema
from remediator.authoring.schema_examples import valid_parameters
from remediator.config import Config
from remediator.core.clock import format_duration
from remediator.extensions.actions.base import Action
from remediator.extensions.checks.base import Check
from remediator.extensions.platforms.base import Platform
from remediator.extensions.registry import Registry
from remediator.playbooks.facts import Fact
from remediator.playbooks.platform_bindings import (
    DockerBinding,
    KubernetesBinding,
    KubernetesNodesBinding,
    SupervisorBinding,
    SystemdBinding,
)
from tests.support import action_sources

DOCS = Path(__file__).parents[2] / "docs"
_NO_BREAK = "\0"
BEGIN, END = "<!-- from the code -->", "<!-- end of what is from the code -->"
BINDINGS: tuple[type[BaseModel], ...] = (
    DockerBinding,
    KubernetesBinding,
    KubernetesNodesBinding,
    SupervisorBinding,
    SystemdBinding,
)
VERBS = (
    "service.status",
    "service.logs",
    "service.restart",
    "service.scale",
    "service.releases",
    "service.rollback",
    "pod.delete",
    "pod.evict",
)
"""The actions on platforms."""


def actions() -> str:
    """Return a section for each action."""
    return "\n".join(_action(action) for action in sorted(Registry().actions, key=lambda each: each.name))


def _action(action: type[Action]) -> str:
    traits = [] if action.mutates else ["read-only"]
    traits += ["idempotent"] if action.mutates and action.idempotent else []
    traits += ["reversible"] if action.reversible else []
    traits += ["interrupts the service"] if action.interrupts else []
    traits += ["**destructive**: requires approval"] if action.destructive else []
    traits += ["**always requires approval**"] if action.requires_approval else []
    line = ", ".join([*traits, f"timeout {format_duration(action.timeout)}"])
    parts = f"{_example('action', action)}\n{_parameters(action.Parameters)}{_facts(action.facts)}{_notes(action)}"
    return f"## {action.name}\n\n{_about(action)}\n\n*{line}*\n\n{parts}"


def _notes(action: type[Action]) -> str:
    """Return the requirements and costs of an action, its platforms, and hints for people."""
    notes = [f"- Needs in the inventory: {_codes(action.needs)}."] if action.needs else []
    if action.name in VERBS:
        able = [each.kind for each in Registry().platforms if action.name not in each.unsupported()]
        notes += [f"- Platforms: {_codes(sorted(able))}."]
    notes += [f"- Cost: {_codes(action.measures)}."] if action.measures else []
    notes += [f"- Risk: {' '.join(action_sources.risks(action))}"] if action_sources.risks(action) else []
    notes += [f"- Undone by: {_codes(action_sources.undone_by(action))}."] if action.reversible else []
    return "\n" + "\n".join(notes) + "\n" if notes else ""


def _codes(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _example(kind: str, made: type[Action] | type[Check]) -> str:
    """Return a step or check with the parameters that it needs, which its model accepts."""
    call: dict[str, Any] = {kind: made.name}
    if kind == "action":
        call = {"id": made.name.rpartition(".")[2].replace("_", "-"), **call}
    if values := example_values(kind, made):
        call["with"] = values
    text = yaml.safe_dump([call], default_flow_style=None, sort_keys=False, allow_unicode=True, width=110)
    return f"```yaml\n{text}```\n"


def example_values(kind: str, made: type[Action] | type[Check]) -> dict[str, Any]:
    """Return the fewest parameters that the model accepts."""
    values = valid_parameters(kind, made.name, Registry().catalogue(), _schema())
    made.Parameters.model_validate(values)
    return values


@cache
def _schema() -> dict[str, Any]:
    return schema("playbook", Registry().catalogue(), Config)


def checks() -> str:
    """Return a section for each check."""
    sections = (
        f"## {check.name}\n\n{_about(check)}\n\n{_example('check', check)}\n"
        f"{_parameters(check.Parameters)}{_facts(check.facts)}{_needs(check)}"
        for check in sorted(Registry().checks, key=lambda each: each.name)
    )
    return "\n".join(sections)


def _needs(check: type[Check]) -> str:
    return f"\nNeeds in the inventory: {_codes(check.needs)}.\n" if check.needs else ""


def platforms() -> str:
    """Return a section for each platform: the supported actions, and the keys of its binding in the inventory."""
    return "\n".join(_platform(platform) for platform in sorted(Registry().platforms, key=lambda each: each.kind))


def _platform(platform: type[Platform]) -> str:
    (binding,) = (each for each in BINDINGS if get_args(each.model_fields["kind"].annotation) == (platform.kind,))
    rows = (f"| `{verb}` | {_support(platform, verb)} |" for verb in VERBS)
    verbs = "\n".join(["| Action | Supported |", "|---|---|", *rows, ""])
    more = inspect.cleandoc(binding.__doc__ or "").partition("\n\n")[2]  # the section begins with what the summary says
    return "\n\n".join(
        filter(None, (f"## {platform.kind}", _about(platform), more, f"{_parameters(binding)}\n{verbs}"))
    )


def _support(platform: type[Platform], verb: str) -> str:
    if verb in platform.unsupported():
        return "no"
    return f"with {_codes(platform.needs[verb])} in the inventory" if verb in platform.needs else "yes"


def _about(kind: type[Action] | type[Check] | type[Platform]) -> str:
    text = (sys.modules[kind.__module__].__doc__ or "").strip()
    text = text.partition(": ")[2] if text.startswith("``") else text
    text = re.sub(r"``[^`]+``", lambda code: code[0].replace(" ", _NO_BREAK), text)
    filled = (textwrap.fill(each, 120, break_long_words=False, break_on_hyphens=False) for each in text.split("\n\n"))
    return "\n\n".join(filled).replace(_NO_BREAK, " ")


def _parameters(model: type[BaseModel]) -> str:
    if not model.model_fields:
        return "No parameters.\n"
    rows = (
        f"| `{name}` | {_default(field)} | {field.description or ''} |"
        for name, field in _fields(model)
        if name != "kind"
    )
    return "\n".join(["| Parameter | Default | Description |", "|---|---|---|", *rows, ""])


def _facts(facts: Iterable[Fact]) -> str:
    rows = [f"| `{fact.name}` | {_type(fact)} | {_limits(fact)}{fact.description} |" for fact in facts]
    return "\n".join(["", "| Fact | Type | Description |", "|---|---|---|", *rows, ""]) if rows else ""


def _type(fact: Fact) -> str:
    return f"{fact.type} ({fact.unit})" if fact.unit else fact.type


def _limits(fact: Fact) -> str:
    values = ", ".join(f"`{value}`" if value else "empty" for value in fact.values)
    return f"One of {values}. " if values else ""


def _fields(model: type[BaseModel]) -> Iterable[tuple[str, object]]:
    """Return the fields of a model. Optional fields that it shares with others come last."""
    own = inspect.get_annotations(model)
    return sorted(model.model_fields.items(), key=lambda item: item[0] not in own and not item[1].is_required())


def _default(field: object) -> str:
    value = getattr(field, "default", PydanticUndefined)
    if value is PydanticUndefined:
        return "required"
    if hasattr(value, "total_seconds"):
        return f"`{format_duration(value)}`"
    unset = value in (None, (), {}) or (isinstance(value, BaseModel) and value == type(value)())
    return "none" if unset else f"`{_as_yaml(value)}`"


def _as_yaml(value: object) -> str:
    """Return a default as an author writes it in a playbook."""
    if isinstance(value, tuple):
        return f"[{', '.join(map(_as_yaml, value))}]"
    return str(value).lower() if isinstance(value, bool) else str(value)


def with_sections(page: str, sections: str) -> str:
    """Return the page with the generated sections replaced."""
    before, rest = page.split(BEGIN)
    return f"{before}{BEGIN}\n{sections}{END}{rest.split(END)[1]}"


PAGES = {"actions.md": actions, "checks.md": checks, "platforms.md": platforms}

if __name__ == "__main__":
    for name, sections in PAGES.items():
        (DOCS / name).write_text(with_sections((DOCS / name).read_text(), sections()))
