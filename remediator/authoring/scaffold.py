"""Generate a new playbook and its test: complete, commented, and in mode shadow until its author changes that."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from pydantic import BaseModel

from remediator.authoring._templates import TEMPLATES
from remediator.authoring.json_schema import schema
from remediator.authoring.schema_examples import valid_parameters
from remediator.core.matchers import example_match, parse_matcher
from remediator.errors import InputError
from remediator.playbooks.catalogue import Catalogue
from remediator.playbooks.diagnostics import did_you_mean
from remediator.playbooks.inventory import Inventory, Service
from remediator.playbooks.target_identity import example_value, naming_matchers

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_ALERT = re.compile(r"[a-zA-Z_][a-zA-Z0-9_:]*")


@dataclass(frozen=True, slots=True)
class KnownAlert:
    """An alert of a Prometheus rule file."""

    name: str
    service: str = ""
    """Its label ``service``, if the rule sets it."""
    expression: str = ""


@dataclass(frozen=True, slots=True)
class Scaffold:
    """The values of a new playbook."""

    name: str
    alert: str
    target: str
    probe: str
    """The check that best shows whether the target serves, as the content of a YAML mapping."""
    check: str
    """The name of that check."""
    expression: str
    channel: str
    matcher: str
    """A matcher that accepts only alerts about the target."""
    label: str
    """The label of that matcher."""
    value: str
    """A value that the matcher accepts."""
    redis: bool = False
    """Whether the target has a Redis endpoint."""
    disk: bool = False
    """Whether the inventory names the disk of its data."""
    action: str = "service.restart"
    step: str = "restart"
    """ID of the step."""
    title: str = ""
    """The purpose of the step, for readers."""
    parameters: str = ""
    """Its required parameters with example values, as a YAML mapping; possibly empty."""
    asks: bool = False
    """Whether the action needs an approval in every mode."""


def make_scaffold(
    name: str,
    alert: str,
    target: str,
    inventory: Inventory,
    alerts: Sequence[KnownAlert],
    channels: Sequence[str] = (),
) -> Scaffold:
    """Derive missing values: the alert from the name, and the target from the alert or the inventory.

    Raises:
        InputError: a name is not valid, or the target cannot be derived.
    """
    if _NAME.fullmatch(name) is None:
        raise InputError(f"{name!r} is not a valid name: use lower-case letters, digits, - and _, like redis-down")
    alert = alert or "".join(word.capitalize() for word in re.split("[-_]", name))
    if _ALERT.fullmatch(alert) is None:
        raise InputError(f"{alert!r} is not a valid alert name; set one with --alert, like RedisDown")
    known = next((item for item in alerts if item.name == alert), KnownAlert(alert))
    service = _find_service(target or known.service, inventory)
    check, parameters = "service.running", ""
    if service.redis is not None:
        check = "redis.ping"
    elif service.postgres is not None:
        check = "postgres.ping"
    elif service.http is not None:
        check, parameters = "http.ok", ", with: {path: ready}"
    matcher = naming_matchers(service)[0]
    parsed = parse_matcher(matcher)
    channel = service.owner or "infrastructure"
    return Scaffold(
        name,
        alert,
        service.name,
        f"check: {check}{parameters}",
        check,
        " ".join(known.expression.split()),
        channel if channel in channels or not channels else channels[0],
        matcher,
        parsed.name,
        example_value(parsed, service),
        service.redis is not None,
        service.disk is not None,
        title=f"Restart {service.name}",
    )


def with_action(
    scaffold: Scaffold, name: str, service: Service, catalogue: Catalogue, config_model: type[BaseModel]
) -> Scaffold:
    """Return the scaffold with another action than a restart.

    Raises:
        InputError: the action is unknown, only reads, or is impossible on the target. Or the settings do not declare
            the command or request that it needs.
    """
    if name not in catalogue.actions:
        raise InputError(f"unknown action {name!r}; {did_you_mean(name, catalogue.actions)}")
    traits = catalogue.traits_of(name)
    if not traits.mutates:
        raise InputError(f"{name} only reads, so it is no remedy; use it under diagnose")
    if reason := catalogue.why_impossible("action", name, service):
        raise InputError(f"{name} is not possible on {service.name}: {reason}; see docs/actions.md")
    if name in catalogue.declared:
        # name the first entry of the settings that changes something and needs the fewest values
        calls = catalogue.declared[name]
        found = {entry: call for entry, call in calls.known.items() if call.traits.mutates}
        if not found:
            message = f"the settings have no {calls.section} that change something"
            raise InputError(f"{message}; declare one first: see docs/how-to/run-own-commands.md")
        entry = min(found, key=lambda each: len(found[each].values))
        values = {key: example_match(pattern) or "example" for key, pattern in found[entry].values.items()}
        required = {calls.name: entry, **({calls.values: values} if values else {})}
        traits = catalogue.traits_of(name, required)
    else:
        required = valid_parameters("action", name, catalogue, schema("playbook", catalogue, config_model))
    return replace(
        scaffold,
        action=name,
        step=name.rpartition(".")[2].replace("_", "-"),
        title=f"{traits.summary.rstrip('.').partition(':')[0]} ({scaffold.target})",
        parameters=json.dumps(required) if required else "",
        asks=traits.destructive or traits.requires_approval or (traits.interrupts and not traits.measures),
    )


def _find_service(name: str, inventory: Inventory) -> Service:
    if not name and len(inventory.services) == 1:
        return next(iter(inventory.services.values()))
    if name in inventory.services:
        return inventory.services[name]
    problem = f"unknown service {name!r}" if name else "the target is not known"
    raise InputError(f"{problem}; set it with --target; {did_you_mean(name, inventory.services)}")


def playbook(scaffold: Scaffold, schema_path: str = "") -> str:
    """Return the text of the playbook.

    Args:
        scaffold: its values.
        schema_path: path of the JSON Schema, for editors; empty: no schema.
    """
    return TEMPLATES.get_template("playbook.yaml").render(**asdict(scaffold), schema=schema_path)


def test(scaffold: Scaffold, schema_path: str = "") -> str:
    """Return the text of the test file.

    Args:
        scaffold: the values of the playbook.
        schema_path: path of the JSON Schema, for editors; empty: no schema.
    """
    return TEMPLATES.get_template("playbook.test.yaml").render(**asdict(scaffold), schema=schema_path)
