"""Comparisons in conditions that can only come out one way: ``status == "failed"`` where a status is never that."""

from __future__ import annotations

import ast
from collections.abc import Mapping

from remediator.core.outcome import Outcome
from remediator.playbooks.cel import Reference
from remediator.playbooks.diagnostics import did_you_mean
from remediator.playbooks.model import Parameter

_TRUTH = "true or false"
_WORDS: Mapping[tuple[str, str | None], tuple[str, ...]] = {
    ("evidence", "status"): ("ok", "fail", "unknown"),
    ("steps", "status"): tuple(outcome.value for outcome in Outcome),
}
"""What these fields can say."""
_KINDS: Mapping[tuple[str, str | None], str] = {
    ("evidence", "ok"): _TRUTH,
    ("evidence", "status"): "text",
    ("evidence", "summary"): "text",
    ("steps", "status"): "text",
    ("target", None): "text",
}
_OF_PARAMETERS = {"string": "text", "service": "text", "boolean": _TRUTH, "integer": "a number", "number": "a number"}


def impossible(reference: Reference, parameters: Mapping[str, Parameter]) -> tuple[str, str] | None:
    """Why a comparison says nothing, and how to mend it; None where it may come out either way."""
    literal = reference.compared
    if literal is None or literal == "null":
        return None
    name = ".".join(part for part in (reference.root, reference.name, reference.field) if part)
    kind, words = _expected(reference, parameters)
    if kind is not None and _kind(literal) != kind:
        hint = "write it without quotes" if literal[0] in "\"'" and kind != "text" else f"compare it with {kind}"
        return f"{name} is {kind} and never {literal}", hint
    if words and (said := _said(literal)) not in words:
        return f"{name} is never {literal}", did_you_mean(said, words)
    return None


def _expected(reference: Reference, parameters: Mapping[str, Parameter]) -> tuple[str | None, tuple[str, ...]]:
    if reference.root == "params":
        declared = parameters.get(reference.name or "")
        if declared is None or reference.field is not None:
            return None, ()
        words = tuple(map(str, declared.enum or ())) if declared.type == "string" else ()
        return _OF_PARAMETERS.get(declared.type), words
    key = (reference.root, reference.field)
    return _KINDS.get(key), _WORDS.get(key, ())


def _said(literal: str) -> str:
    """The text of a literal: CEL quotes and escapes like Python."""
    return str(ast.literal_eval(literal))


def _kind(literal: str) -> str:
    if literal in ("true", "false"):
        return _TRUTH
    return "text" if literal[0] in "rR\"'" else "a number"
