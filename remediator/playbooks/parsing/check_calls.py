"""Actions and checks that a playbook names: do they exist, and can their parameters be right?

A parameter's value is known only when an alert is there, so references are checked with samples of their type.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from pydantic import BaseModel

from remediator.playbooks.diagnostics import Diagnostic, did_you_mean
from remediator.playbooks.model import Parameter
from remediator.playbooks.parameters import REFERENCE, references
from remediator.playbooks.parsing import promql
from remediator.playbooks.parsing.messages import PathError, subject
from remediator.playbooks.parsing.nodes import Node, Path, Scalar, Table, child, data, find, walk
from remediator.playbooks.parsing.subject import Call, CheckSubject
from remediator.playbooks.parsing.validation import faults

_SAMPLES: Mapping[str, Any] = {"string": "x", "boolean": True, "duration": "1m", "integer": 1, "number": 1.0}


def check(about: CheckSubject) -> Iterator[Diagnostic]:
    """Every call of a playbook."""
    for call in about.calls:
        yield from _call(about, call)


def check_below(about: CheckSubject, path: Path) -> Iterator[Diagnostic]:
    """Every check that is called by ``check`` somewhere below a path, as guards do."""
    node, left = find(about.root, path)
    for below, scalar in () if left else walk(node):
        if below and below[-1] == "check" and isinstance(scalar.value, str):
            above = (*path, *below[:-1])
            given = child(find(about.root, above)[0], "with")
            values = data(given) if isinstance(given, Table) else {}
            yield from _call(about, Call(above, "check", scalar.value, values))


def _call(about: CheckSubject, call: Call) -> Iterator[Diagnostic]:
    yield from _named(about, call)
    yield from check_references(about, (*call.path, "with"))
    if call.kind == "check" and call.name == "promql":
        yield from check_promql(about, (*call.path, "with", "query"))


def _named(about: CheckSubject, call: Call) -> Iterator[Diagnostic]:
    offered = about.catalogue.actions if call.kind == "action" else about.catalogue.checks
    model = offered.get(call.name)
    if model is None:
        yield _stranger(about, call, offered)
        return
    yield from _fitting(about, call, model)


def _stranger(about: CheckSubject, call: Call, offered: Mapping[str, Any]) -> Diagnostic:
    other = about.catalogue.checks if call.kind == "action" else about.catalogue.actions
    hint = did_you_mean(call.name, offered)
    if call.name in other:
        there = "check" if call.kind == "action" else "action"
        hint = f"{call.name} is {'an' if there == 'action' else 'a'} {there}"
        if call.path[0] == "diagnose":
            hint += f"; write {there}: {call.name}"
    message = f"there is no {call.kind} {call.name!r}"
    return about.finding((*call.path, call.kind), f"unknown-{call.kind}", message, hint)


def _fitting(about: CheckSubject, call: Call, model: type[BaseModel]) -> Iterator[Diagnostic]:
    block = _block(about, call)
    seen: set[tuple[Path, str]] = set()
    for values in _samples(about, block):
        for fault in faults(model, block, values=values):
            if (fault.path, fault.rule) in seen:
                continue
            seen.add((fault.path, fault.rule))
            judged = _judged(about, block, fault, values)
            if judged is not None:
                yield judged.finding(block)


def _block(about: CheckSubject, call: Call) -> Node:
    """The ``with`` of a call; where there is none, an empty one at the call's name."""
    written, left = find(about.root, (*call.path, "with"))
    if not left:
        return written
    name, _ = find(about.root, (*call.path, call.kind))
    return Table(name.text, name.line, name.column, name.width, {})


def _samples(about: CheckSubject, block: Node) -> Iterator[Any]:
    """The block's data with references replaced: once, or once for each value that a parameter's enum allows."""
    declared = about.playbook.parameters
    used = [name for name in references(data(block)) if name in declared]
    rounds = max((len(declared[name].enum or ()) for name in used), default=0)
    for at in range(max(1, min(rounds, 20))):
        values = {name: _sample(about, parameter, at) for name, parameter in declared.items()}
        yield _filled(data(block), values)


def _sample(about: CheckSubject, declared: Parameter, at: int) -> Any:
    if declared.value is not None:
        return declared.value
    if declared.enum:
        return declared.enum[at % len(declared.enum)]
    if declared.type in ("integer", "number"):
        bound = declared.minimum if declared.minimum is not None else declared.maximum
        return _SAMPLES[declared.type] if bound is None else (int(bound) if declared.type == "integer" else bound)
    if declared.type == "service":
        return next(iter(about.inventory.services), "x") if about.inventory else "x"
    return _SAMPLES[declared.type]


def _filled(value: Any, values: Mapping[str, Any]) -> Any:
    if isinstance(value, dict):
        return {key: _filled(item, values) for key, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, values) for item in value]
    if not isinstance(value, str):
        return value
    whole = REFERENCE.fullmatch(value)
    if whole is not None and whole[1] is None:
        return values.get(whole[2], "x")
    return REFERENCE.sub(lambda found: "x" if found[1] else str(values.get(found[2], "x")), value)


def _judged(about: CheckSubject, block: Node, fault: PathError, values: Any) -> PathError | None:
    """A fault in a value that comes from a parameter is one only if every value of the parameter has it."""
    node, left = find(block, fault.path)
    names = list(references(data(node))) if isinstance(node, Scalar) and not left else []
    if not names:
        return fault
    declared = about.playbook.parameters.get(names[0])
    if declared is None:
        return None  # said elsewhere
    shown = f"${{{names[0]}}} is a {declared.type}"
    if fault.expected:
        hint = f"declare {names[0]} with another type" if declared.value is None else ""
        message = f"{subject(fault.path)} must be {fault.expected}, and {shown}"
        return replace(fault, rule="wrong-type", message=message, hint=hint, column=0)
    if declared.value is not None or declared.enum:
        rule, _, _ = fault.message.partition(", not ")
        message = f"{rule}, and ${{{names[0]}}} {'is' if declared.value is not None else 'may be'}"
        return replace(fault, message=f"{message} {_at(values, fault.path)!r}", column=0)
    if " must be one of " in fault.message:
        hint = f"give the parameter {names[0]} an enum"
        message = f"{fault.message.partition(', not ')[0]}, and {shown} of any value"
        return replace(fault, message=message, hint=hint, column=0)
    return None  # a bound or a form: told when the plan is made


def _at(values: Any, path: Path) -> Any:
    for step in path:
        values = values[step]
    return values


def check_references(about: CheckSubject, path: Path) -> Iterator[Diagnostic]:
    """Every ``${name}`` below a path is declared, and none stands in a key."""
    node, left = find(about.root, path)
    if left:
        return
    for below, scalar in walk(node):
        if isinstance(scalar.value, str):
            yield from _strangers(about, scalar)
        for end in range(1, len(below) + 1):
            yield from _in_key(about, (*path, *below[:end]))


def _strangers(about: CheckSubject, scalar: Scalar) -> Iterator[Diagnostic]:
    for found in REFERENCE.finditer(str(scalar.value)):
        name = found[2]
        if found[1] is None and name not in about.written_names("parameters"):
            hint = did_you_mean(name, about.playbook.parameters) or "declare it under parameters"
            message = f"${{{name}}} is not a declared parameter"
            yield scalar.finding("unknown-parameter", message, hint, offset=found.start() + 1)


def _in_key(about: CheckSubject, path: Path) -> Iterator[Diagnostic]:
    if isinstance(path[-1], str) and REFERENCE.search(path[-1]):
        yield about.key_finding(path, "bad-reference", "a parameter cannot stand in a key", "it can be a value")


def check_promql(about: CheckSubject, path: Path) -> Iterator[Diagnostic]:
    """An expression, as far as it can be checked without Prometheus."""
    node, left = find(about.root, path)
    if left or not isinstance(node, Scalar) or not isinstance(node.value, str):
        return
    for flaw in promql.flaws(node.value, about.playbook.parameters):
        yield node.finding(flaw.rule, flaw.message, flaw.hint, offset=flaw.column)


def promql_below(about: CheckSubject, path: Path) -> Iterator[Diagnostic]:
    """Every value under a key ``promql`` below a path."""
    node, left = find(about.root, path)
    if left:
        return
    for below, _ in walk(node):
        if below and below[-1] == "promql" and child(find(node, below[:-1])[0], "promql") is not None:
            yield from check_promql(about, (*path, *below))
