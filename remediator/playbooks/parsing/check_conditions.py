"""Find mistakes in conditions: unknown facts, and comparisons whose result never changes."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from remediator.core.outcome import Outcome
from remediator.playbooks import cel
from remediator.playbooks.cel import Reference
from remediator.playbooks.diagnostics import Diagnostic, did_you_mean
from remediator.playbooks.facts import ANY, Fact, fact_at, names_in
from remediator.playbooks.model import Parameter
from remediator.playbooks.parsing.nodes import Path
from remediator.playbooks.parsing.subject import CheckSubject

_BOOLEAN = "true or false"
_VALUES: Mapping[tuple[str, str | None], tuple[str, ...]] = {
    ("evidence", "status"): ("ok", "fail", "unknown"),
    ("steps", "status"): tuple(outcome.value for outcome in Outcome),
}
"""The possible values of these fields."""
_TYPES: Mapping[tuple[str, str | None], str] = {
    ("evidence", "ok"): _BOOLEAN,
    ("evidence", "status"): "text",
    ("steps", "status"): "text",
    ("target", None): "text",
}
_PARAMETER_TYPES = {
    "string": "text",
    "service": "text",
    "boolean": _BOOLEAN,
    "integer": "a number",
    "number": "a number",
}


def constant_comparison(reference: Reference, parameters: Mapping[str, Parameter]) -> tuple[str, str] | None:
    """Return why a comparison always has the same result, and how to fix it; None if the result can vary."""
    literal = reference.compared
    if literal is None or literal == "null":
        return None
    name = ".".join(part for part in (reference.root, reference.name, reference.field) if part)
    expected, values = _expected(reference, parameters)
    quoted = literal[0] in "rR\"'"
    given = "text" if quoted else _BOOLEAN if literal in ("true", "false") else "a number"
    if expected is not None and given != expected:
        hint = "remove the quotes" if quoted else f"compare it with {expected}"
        return f"{name} is {expected}, so it never equals {literal}", hint
    if values and (text := str(ast.literal_eval(literal))) not in values:  # CEL quotes and escapes like Python
        return f"{name} never equals {literal}", did_you_mean(text, values)
    return None


def _expected(reference: Reference, parameters: Mapping[str, Parameter]) -> tuple[str | None, tuple[str, ...]]:
    """Return the type of the referenced fact of a condition, and its possible values; None and empty if unknown."""
    if reference.root == "params":
        declared = parameters.get(reference.name or "")
        if declared is None or reference.field is not None:
            return None, ()
        values = tuple(map(str, declared.enum or ())) if declared.type == "string" else ()
        return _PARAMETER_TYPES.get(declared.type), values
    key = (reference.root, reference.field)
    return _TYPES.get(key), _VALUES.get(key, ())


def check_facts(subject: CheckSubject) -> Iterator[Diagnostic]:
    """Check the facts that conditions read, and their types, against the declarations of checks and actions."""
    for at, step in enumerate(subject.playbook.steps):
        if step.when is not None:
            yield from _facts_in(subject, ("steps", at, "when"), step.when)
            yield from _results_in(subject, ("steps", at, "when"), step.when)
    for at, conclusion in enumerate(subject.playbook.conclude):
        yield from _facts_in(subject, ("conclude", at, "when"), conclusion.when)
        yield from _results_in(subject, ("conclude", at, "when"), conclusion.when)


_OPERAND_BEFORE = re.compile(r"(?:^|&&|\|\||!)\s*$")
_OPERAND_AFTER = re.compile(r"\s*(?:$|&&|\|\|)")


def _results_in(subject: CheckSubject, path: Path, text: str) -> Iterator[Diagnostic]:
    """Check each operand of ``&&``, ``||`` and ``!``: it must be a boolean."""
    for reference in cel.compile(text).references:
        start = reference.column - 1
        names, end = _members(text, start + len(reference.root))
        if not _OPERAND_BEFORE.search(text[:start]) or not _OPERAND_AFTER.match(text, end):
            continue
        kind = _type_of(subject, reference, names)
        if kind is not None and kind != _BOOLEAN:
            shown = ".".join((reference.root, *names))
            message = f"{shown} is {kind}, not true or false, so the condition is always unknown"
            hint = f"compare it with a value, for example {shown} {'> 0' if kind == 'a number' else '== …'}"
            yield subject.diagnostic(path, "bad-condition", message, hint, offset=reference.column)


_FACTS_OF = {"evidence": "facts", "steps": "output"}
"""The field with the facts, by the root of a reference."""
_FACT_TYPES = {"string": "text", "integer": "a number", "number": "a number", "list": "a list", "object": "a mapping"}


def _type_of(subject: CheckSubject, reference: Reference, names: tuple[str, ...]) -> str | None:
    """Return the type of a name with all its members, in words; None if it is true or false, or not known."""
    fields = _FACTS_OF.get(reference.root)
    if fields is not None and len(names) > 1 and names[1] == fields:
        fact = fact_at(declared_facts(subject, reference.root, names[0]), names[2:])
        return "a mapping" if len(names) == 2 else None if fact is None else _FACT_TYPES.get(fact.type)
    return _expected(reference, subject.playbook.parameters)[0]


def _facts_in(subject: CheckSubject, path: Path, text: str) -> Iterator[Diagnostic]:
    for reference in cel.compile(text).references:
        if (shown := _compared_with_null(text, reference)) is not None:
            message = f"{shown} is never null: a fact that is not reported does not exist"
            yield subject.diagnostic(path, "impossible-value", message, f"write !has({shown})", offset=reference.column)
        field = _FACTS_OF.get(reference.root)
        if field is None or reference.name is None or reference.field != field:
            continue
        facts = declared_facts(subject, reference.root, reference.name)
        if facts and (found := _fact_mistake(text, reference, facts)) is not None:
            yield subject.diagnostic(path, *found, offset=reference.column)


def declared_facts(subject: CheckSubject, root: str, name: str) -> tuple[Fact, ...]:
    """Return the facts of a diagnosis or step; empty if it is unknown or does not declare them."""
    catalogue, playbook = subject.catalogue, subject.playbook
    if root == "evidence":
        for look in playbook.diagnose:
            if look.id == name and look.check is not None:
                return catalogue.check_facts.get(look.check, ())
            if look.id == name:
                return catalogue.traits_of(str(look.action), look.with_).facts
    step = next((step for step in playbook.steps if step.id == name), None)
    return () if step is None else catalogue.traits_of(step.action, step.with_).facts


_IS_NULL = re.compile(r"\s*==\s*null\b")
_NULL_IS = re.compile(r"\bnull\s*==\s*$")


def _compared_with_null(text: str, reference: Reference) -> str | None:
    """Return the fact or cost that a condition compares with null by ``==``; None without such a comparison.

    An unknown fact or cost is missing, so such a comparison is unknown or false, and never true.
    """
    start = reference.column - 1
    names, end = _members(text, start + len(reference.root))
    facts = reference.field is not None and reference.field == _FACTS_OF.get(reference.root) and len(names) > 2
    if not facts and reference.root != "cost":
        return None
    compared = _IS_NULL.match(text, end) or _NULL_IS.search(text, 0, start)
    return text[start:end] if compared else None


_STRING = r"""(?:"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')"""
_MEMBER = re.compile(rf"""\s*(?:\.\s*(?P<name>[A-Za-z_]\w*)\b(?!\s*\()|\[\s*(?P<quoted>{_STRING})\s*\])""")
_LITERALS = rf"{_STRING}(?:\s*,\s*{_STRING})*"
_AFTER = re.compile(
    rf"""\s*(?:(?:==|!=)\s*(?P<one>{_STRING})(?!\s*[.+\["'])|in\s*\[\s*(?P<many>{_LITERALS})\s*,?\s*\])"""
)
_BEFORE = re.compile(rf"""(?<![rRbB"'])(?P<one>{_STRING})\s*(?P<operator>==|!=|\bin)\s*$""")


def _fact_mistake(text: str, reference: Reference, facts: tuple[Fact, ...]) -> tuple[str, str, str] | None:
    """Return ID, message and hint for an unknown fact or an impossible value after this reference."""
    start = reference.column - 1
    name, end = _members(text, start + len(reference.root))
    path = name[2:]
    for depth, part in enumerate(path):
        known = names_in(facts, path[:depth])
        if not known:  # the fact is a mapping or a list whose contents are not declared
            return None
        if fact_at(facts, path[: depth + 1]) is None:
            owner = ".".join((reference.root, *name[: depth + 2]))
            return "unknown-fact", f"{owner} has no fact {part!r}", did_you_mean(part, known)
    fact = fact_at(facts, path)
    given = _values(text, start, end)
    shown = ".".join((reference.root, *name))
    contents = names_in(facts, path)
    searched = given.contained if contents and ANY not in contents else ()
    if wrong := [each for each in searched if each not in contents]:
        return "impossible-value", f'{shown} never contains "{wrong[0]}"', did_you_mean(wrong[0], contents)
    if fact is None or not given.compared:
        return None
    if fact.type in ("boolean", "integer", "number"):
        kind = _BOOLEAN if fact.type == "boolean" else "a number"
        return "impossible-value", f'{shown} is {kind}, so it never equals "{given.compared[0]}"', "remove the quotes"
    if fact.values and (wrong := [each for each in given.compared if each not in fact.values]):
        return "impossible-value", f'{shown} never equals "{wrong[0]}"', did_you_mean(wrong[0], fact.values)
    return None


def _members(text: str, at: int) -> tuple[tuple[str, ...], int]:
    """Return the names in ``.name["name"]…`` at this place, and the place after them."""
    names: list[str] = []
    while (found := _MEMBER.match(text, at)) is not None:
        names.append(found["name"] or str(ast.literal_eval(found["quoted"])))
        at = found.end()
    return tuple(names), at


@dataclass(frozen=True, slots=True)
class _Given:
    """The strings that a condition compares a fact with, and those that it searches in the fact."""

    compared: tuple[str, ...] = ()
    contained: tuple[str, ...] = ()


def _values(text: str, start: int, end: int) -> _Given:
    if text[:start].rstrip().endswith("+") or text[end:].lstrip().startswith(("+", ".", "[")):
        return _Given()  # a part of a longer expression
    if (after := _AFTER.match(text, end)) is not None:
        return _Given(compared=_strings(after["one"] or after["many"]))
    if (before := _BEFORE.search(text, 0, start)) is None:
        return _Given()
    if before["operator"] == "in":
        return _Given(contained=_strings(before["one"]))
    return _Given(compared=_strings(before["one"]))


def _strings(text: str) -> tuple[str, ...]:
    """Return the values of string literals. CEL quotes and escapes like Python."""
    return tuple(str(ast.literal_eval(each)) for each in re.findall(_STRING, text))
