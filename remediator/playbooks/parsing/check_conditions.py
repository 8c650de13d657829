"""Find comparisons in conditions whose result never changes, such as ``status == "failed"`` for a check."""

from __future__ import annotations

import ast
from collections.abc import Mapping

from remediator.core.outcome import Outcome
from remediator.playbooks.cel import Reference
from remediator.playbooks.diagnostics import did_you_mean
from remediator.playbooks.model import Parameter

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
    """Return the type of what a condition refers to, and its possible values; None and empty if unknown."""
    if reference.root == "params":
        declared = parameters.get(reference.name or "")
        if declared is None or reference.field is not None:
            return None, ()
        values = tuple(map(str, declared.enum or ())) if declared.type == "string" else ()
        return _PARAMETER_TYPES.get(declared.type), values
    key = (reference.root, reference.field)
    return _TYPES.get(key), _VALUES.get(key, ())
