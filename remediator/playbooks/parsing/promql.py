"""Check PromQL without Prometheus: syntax, types, and where parameters are substituted."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from remediator.clients.prometheus.promql import parse
from remediator.core.types import FieldError
from remediator.playbooks.model import Parameter
from remediator.playbooks.references import REFERENCE

UNKNOWN_FUNCTION = "unknown function"
"""Beginning of the parser's error for a function that it does not know. A newer Prometheus may know the function."""
_UNQUOTED = frozenset({"integer", "number", "duration"})
_OPENING = {")": "(", "]": "[", "}": "{"}
_TOKEN = re.compile(
    r"""(?P<comment>\#[^\n]*)
    |(?P<reference>\$\$?\{[^{}]*\})
    |(?P<string>"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|`[^`]*`)
    |(?P<quote>["'`])
    |(?P<bracket>[()\[\]{}])
    |(?P<other>[^()\[\]{}"'`\#$]+|.)""",
    re.VERBOSE | re.DOTALL,
)
_MESSAGES = {"invalid promql query": "invalid PromQL: an operator, a name or a value is missing"}
_SAMPLES = {"integer": "1", "number": "1", "duration": "5m"}


def check_expression(query: str, parameters: Mapping[str, Parameter]) -> Iterator[FieldError]:
    """Yield the errors of an expression in a playbook."""
    found = list(_token_errors(query, parameters))
    if not found and (error := parse_error(query, parameters)) and not error.startswith(UNKNOWN_FUNCTION):
        found = [_error(_MESSAGES.get(error, error))]
    yield from found


def parse_error(query: str, parameters: Mapping[str, Parameter]) -> str | None:
    """Return the parser's first error, with samples in place of the parameters, or None."""

    def sample(found: re.Match[str]) -> str:
        declared = None if found[1] is not None else parameters.get(found[2])
        return "x" if declared is None else _SAMPLES.get(declared.type, "x")

    try:
        parse(REFERENCE.sub(sample, query))
    except ValueError as error:
        return str(error)
    return None


def _error(message: str, column: int = 0) -> FieldError:
    return FieldError(message, column=column, rule="bad-promql")


def _token_errors(query: str, parameters: Mapping[str, Parameter]) -> Iterator[FieldError]:
    """Yield unclosed quotes and brackets, and parameters whose value could be more than a value.

    The parser reports these without a useful place.
    """
    if not query.strip():
        yield _error("the expression is empty")
    opened: list[tuple[str, int]] = []
    for token in _TOKEN.finditer(query):
        column, text = token.start() + 1, token.group()
        match token.lastgroup:
            case "quote":
                yield _error("this quote is not closed", column)
                return
            case "bracket" if text not in _OPENING:
                opened.append((text, column))
            case "bracket":
                opening = opened.pop()[0] if opened else ""
                if opening != _OPENING[text]:
                    reason = f"does not match the {opening} before it" if opening else "has no opening bracket"
                    yield _error(f"this {text} {reason}", column)
            case "string" | "reference":
                yield from _reference_errors(text, column, parameters)
    yield from (_error(f"this {text} is not closed", column) for text, column in opened)


def _reference_errors(text: str, column: int, parameters: Mapping[str, Parameter]) -> Iterator[FieldError]:
    """Yield references in a token that is a string or a reference outside of strings."""
    for found in REFERENCE.finditer(text):
        if found[1] is not None:
            continue
        if text.startswith("`"):
            message = f"{found.group()} is between backticks, where it cannot be escaped"
            hint = "put the value into double quotes"
            yield FieldError(message, (), column + found.start(), hint, "bad-reference")
        elif text[0] == "$" and found[2] in parameters and parameters[found[2]].type not in _UNQUOTED:
            message = f"{text} is a {parameters[found[2]].type}, and is used in PromQL without quotes"
            hint = f'write "{text}"; only {", ".join(sorted(_UNQUOTED))} can be used without quotes'
            yield FieldError(message, (), column, hint, "bad-reference")
