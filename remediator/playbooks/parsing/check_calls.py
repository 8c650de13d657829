"""Check the actions and checks that a playbook names: whether they exist, and whether their parameters can be valid.

The values of parameters come from an alert, so references are checked with samples of their type.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import reduce
from typing import Any

from pydantic import BaseModel

from remediator.core.matchers import compile_pattern
from remediator.core.types import FieldError
from remediator.playbooks.diagnostics import Diagnostic, did_you_mean
from remediator.playbooks.model import Parameter
from remediator.playbooks.parsing import promql
from remediator.playbooks.parsing.messages import describe, error_at
from remediator.playbooks.parsing.nodes import Node, Path, Scalar, Table, child, data, find, walk
from remediator.playbooks.parsing.subject import Call, CheckSubject
from remediator.playbooks.parsing.validation import field_errors
from remediator.playbooks.references import REFERENCE, references

_SAMPLES: Mapping[str, Any] = {"string": "x", "boolean": True, "duration": "1m", "integer": 1, "number": 1.0}
_MAX_SAMPLES = 20


def check_calls(subject: CheckSubject) -> Iterator[Diagnostic]:
    """Check every call of a playbook."""
    for call in subject.calls:
        yield from _check_call(subject, call)


def check_calls_below(subject: CheckSubject, path: Path) -> Iterator[Diagnostic]:
    """Check every value of a key ``check`` below a path, as in the settings of guards."""
    node, left = find(subject.root, path)
    for below, scalar in () if left else walk(node):
        if below and below[-1] == "check" and isinstance(scalar.value, str):
            above = (*path, *below[:-1])
            given = child(find(subject.root, above)[0], "with")
            values = data(given) if isinstance(given, Table) else {}
            yield from _check_call(subject, Call(above, "check", scalar.value, values))


def check_promql_below(subject: CheckSubject, path: Path) -> Iterator[Diagnostic]:
    """Check every value of a key ``promql`` below a path."""
    node, left = find(subject.root, path)
    for below, _ in () if left else walk(node):
        if below and below[-1] == "promql" and child(find(node, below[:-1])[0], "promql") is not None:
            yield from _check_promql(subject, (*path, *below))


def check_references(subject: CheckSubject, path: Path) -> Iterator[Diagnostic]:
    """Check that every ``${name}`` below a path is declared, and that no key contains one."""
    node, left = find(subject.root, path)
    for below, scalar in () if left else walk(node):
        for found in REFERENCE.finditer(scalar.value) if isinstance(scalar.value, str) else ():
            name = found[2]
            if found[1] is None and name not in subject.written_names("parameters"):
                hint = did_you_mean(name, subject.playbook.parameters) or "declare it under parameters"
                message = f"unknown parameter ${{{name}}}"
                yield scalar.diagnostic("unknown-parameter", message, hint, offset=found.start() + 1)
        for end in range(1, len(below) + 1):
            key = (*path, *below[:end])
            if isinstance(key[-1], str) and REFERENCE.search(key[-1]):
                message = "a key cannot contain a parameter"
                yield subject.key_diagnostic(key, "bad-reference", message, "use the parameter in a value")


def _check_promql(subject: CheckSubject, path: Path) -> Iterator[Diagnostic]:
    node, left = find(subject.root, path)
    if not left and isinstance(node, Scalar) and isinstance(node.value, str):
        for error in promql.check_expression(node.value, subject.playbook.parameters):
            yield error_at(node, error)


def _check_call(subject: CheckSubject, call: Call) -> Iterator[Diagnostic]:
    known, other = subject.catalogue.checks, subject.catalogue.actions
    if call.kind == "action":
        known, other = other, known
    if call.name in known:
        yield from _check_parameters(subject, call, known[call.name])
        yield from _check_declared(subject, call)
    else:
        hint = did_you_mean(call.name, known)
        if call.name in other:
            kind = "check" if call.kind == "action" else "action"
            hint = f"{call.name} is {'a' if kind == 'check' else 'an'} {kind}"
            hint += f"; write {kind}: {call.name}" if call.path[0] == "diagnose" else ""
        message = f"unknown {call.kind} {call.name!r}"
        yield subject.diagnostic((*call.path, call.kind), f"unknown-{call.kind}", message, hint)
    yield from check_references(subject, (*call.path, "with"))
    if call.kind == "check" and call.name == "promql":
        yield from _check_promql(subject, (*call.path, "with", "query"))


def _check_declared(subject: CheckSubject, call: Call) -> Iterator[Diagnostic]:
    """Check the command or request that a call names, and its values, against the settings."""
    calls = subject.catalogue.declared.get(call.name)
    name = None if calls is None else call.given.get(calls.name)
    if calls is None or not isinstance(name, str) or REFERENCE.search(name):
        return
    path, kind = (*call.path, "with"), calls.section.removesuffix("s")
    declared = calls.find(call.given)
    if declared is None:
        hint = did_you_mean(name, calls.known) or f"the settings have no {calls.section}"
        message = f"the settings do not allow the {kind} {name!r}"
        yield subject.diagnostic((*path, calls.name), f"unknown-{kind}", message, hint)
        return
    if call.kind == "check" and declared.traits.mutates:
        message = f"a check must not change anything, but the settings do not declare the {kind} {name!r} as read_only"
        hint = f"if it changes nothing, declare it: {calls.section}.{name}.read_only: true"
        yield subject.diagnostic((*path, calls.name), "not-read-only", message, hint)
    target = subject.playbook.target
    service = subject.inventory.services.get(target) if subject.inventory is not None else None
    if declared.on_host and service is not None and service.host is None:
        message = f"the {kind} {name!r} runs on the host of its target, but {target!r} has none"
        hint = f"set host of {target} in the inventory, or remove on_host in the settings"
        yield subject.diagnostic((*path, calls.name), "wrong-value", message, hint)
    given = call.given.get(calls.values)
    values = given if isinstance(given, Mapping) else {}
    for each in sorted(values.keys() - declared.values.keys()):
        hint = did_you_mean(each, declared.values) or f"the {kind} takes no values"
        message = f"the {kind} {name!r} does not take the value {each!r}"
        yield subject.key_diagnostic((*path, calls.values, each), "wrong-value", message, hint)
    missing = sorted(declared.values.keys() - values.keys()) if declared.all_required else []
    if missing:
        message = f"the {kind} {name!r} needs the value {missing[0]!r}"
        hint = f"write with: {{{calls.name}: {name}, {calls.values}: {{{missing[0]}: …}}}}"
        yield subject.diagnostic((*path, calls.name), "missing-key", message, hint)
    for each, pattern in declared.values.items():
        value = values.get(each)
        fixed = pattern and isinstance(value, str) and not REFERENCE.search(value)
        if fixed and not compile_pattern(pattern).fullmatch(value):
            message = f"the {kind} {name!r} does not allow {value!r} for {each!r}"
            yield subject.diagnostic((*path, calls.values, each), "wrong-value", message, f"it must match {pattern}")


def _check_parameters(subject: CheckSubject, call: Call, model: type[BaseModel]) -> Iterator[Diagnostic]:
    block, left = find(subject.root, (*call.path, "with"))
    if left:  # no ``with``: report missing parameters at the name of the action or check
        name, _ = find(subject.root, (*call.path, call.kind))
        block = Table(name.text, name.line, name.column, name.width, {})
    seen: set[tuple[Path, str]] = set()
    for values in _samples(subject, block):
        for error in field_errors(model, block, values=values):
            if (error.path, error.rule) not in seen:
                seen.add((error.path, error.rule))
                if (reworded := _about_parameter(subject, block, error, values)) is not None:
                    yield error_at(block, reworded)


def _samples(subject: CheckSubject, block: Node) -> Iterator[Any]:
    """Yield the data of a block with samples for its references: once, or once for each value of an enum."""
    declared = subject.playbook.parameters
    used = [name for name in references(data(block)) if name in declared]
    rounds = max((len(declared[name].enum or ()) for name in used), default=0)
    for at in range(max(1, min(rounds, _MAX_SAMPLES))):
        yield _fill(data(block), {name: _sample(subject, parameter, at) for name, parameter in declared.items()})


def _sample(subject: CheckSubject, declared: Parameter, at: int) -> Any:
    if declared.value is not None:
        return declared.value
    if declared.enum:
        return declared.enum[at % len(declared.enum)]
    if declared.type in ("integer", "number"):
        bound = declared.minimum if declared.minimum is not None else declared.maximum
        return _SAMPLES[declared.type] if bound is None else (int(bound) if declared.type == "integer" else bound)
    if declared.type == "service":
        return next(iter(subject.inventory.services), "x") if subject.inventory else "x"
    return _SAMPLES[declared.type]


def _fill(value: Any, values: Mapping[str, Any]) -> Any:
    if isinstance(value, dict):
        return {key: _fill(item, values) for key, item in value.items()}
    if isinstance(value, list):
        return [_fill(item, values) for item in value]
    if not isinstance(value, str):
        return value
    whole = REFERENCE.fullmatch(value)
    if whole is not None and whole[1] is None:
        return values.get(whole[2], "x")
    return REFERENCE.sub(lambda found: "x" if found[1] else str(values.get(found[2], "x")), value)


def _about_parameter(subject: CheckSubject, block: Node, error: FieldError, values: Any) -> FieldError | None:
    """Reword an error in a value that comes from a parameter. Return None if a value of the parameter can be valid."""
    node, left = find(block, error.path)
    names = list(references(data(node))) if isinstance(node, Scalar) and not left else []
    if not names:
        return error
    declared = subject.playbook.parameters.get(names[0])
    if declared is None:
        return None  # the loader reports this as an unknown parameter
    shown = f"${{{names[0]}}} is a {declared.type}"
    limit = error.message.partition(", not ")[0]
    if error.expected:
        hint = f"declare {names[0]} with another type" if declared.value is None else ""
        message = f"{describe(error.path)} must be {error.expected}, but {shown}"
        return replace(error, rule="wrong-type", message=message, hint=hint, column=0)
    if declared.value is not None or declared.enum:
        value = reduce(lambda part, step: part[step], error.path, values)
        message = f"{limit}, but ${{{names[0]}}} {'is' if declared.value is not None else 'can be'} {value!r}"
        return replace(error, message=message, column=0)
    if " must be one of " in error.message:
        hint = f"declare the parameter {names[0]} with an enum"
        return replace(error, message=f"{limit}, but {shown} with any value", hint=hint, column=0)
    return None  # a limit or a pattern; it is checked when the plan is made
