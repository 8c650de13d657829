"""PromQL in playbooks, as far as it can be told without Prometheus: is it whole, do its types go together, and where
may a parameter stand? The grammar is a library's, which is loaded with the first expression."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from remediator.playbooks.model import Parameter
from remediator.playbooks.parameters import REFERENCE

_BARE = frozenset({"integer", "number", "duration"})
_CLOSES = {")": "(", "]": "[", "}": "{"}
_TOKEN = re.compile(
    r"""(?P<comment>\#[^\n]*)
    |(?P<reference>\$\$?\{[^{}]*\})
    |(?P<string>"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|`[^`]*`)
    |(?P<quote>["'`])
    |(?P<bracket>[()\[\]{}])
    |(?P<other>[^()\[\]{}"'`\#$]+|.)""",
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class PromqlError:
    """Something wrong in an expression."""

    column: int
    """Counted from 1; 0 where the whole of it is meant."""
    rule: str
    message: str
    hint: str = ""


def flaws(query: str, parameters: Mapping[str, Parameter]) -> Iterator[PromqlError]:
    """What is wrong with an expression that a playbook holds."""
    found = list(_unclosed(query, parameters))
    if not found and (said := complaint(query, parameters)) and not said.startswith(UNKNOWN_FUNCTION):
        found = [PromqlError(0, "bad-promql", _SAID.get(said, said))]
    yield from found


UNKNOWN_FUNCTION = "unknown function"
"""So begins the complaint about a function that the library does not know; a newer Prometheus may."""
_SAID = {"invalid promql query": "this is not PromQL: an operator, a name or a value is missing somewhere"}
_SAMPLES = {"integer": "1", "number": "1", "duration": "5m"}


def complaint(query: str, parameters: Mapping[str, Parameter]) -> str | None:
    """The library's first complaint about an expression whose parameters are filled in; None if it has none."""
    from promql_parser import parse  # noqa: PLC0415 - only where there is PromQL

    def filled(found: re.Match[str]) -> str:
        declared = None if found[1] is not None else parameters.get(found[2])
        return "x" if declared is None else _SAMPLES.get(declared.type, "x")

    try:
        parse(REFERENCE.sub(filled, query))
    except ValueError as error:
        return str(error)
    return None


def _unclosed(query: str, parameters: Mapping[str, Parameter]) -> Iterator[PromqlError]:
    if not query.strip():
        yield PromqlError(0, "bad-promql", "the expression is empty")
    open_: list[tuple[str, int]] = []
    for token in _TOKEN.finditer(query):
        place, text = token.start() + 1, token.group()
        match token.lastgroup:
            case "quote":
                yield PromqlError(place, "bad-promql", "this quote is never closed")
                return
            case "bracket":
                yield from _bracket(text, place, open_)
            case "string" if text.startswith("`"):
                yield from _in_backticks(text, place)
            case "reference":
                yield from _outside(text, place, parameters)
    yield from (PromqlError(place, "bad-promql", f"this {text} is never closed") for text, place in open_)


def _bracket(text: str, place: int, open_: list[tuple[str, int]]) -> Iterator[PromqlError]:
    if text not in _CLOSES:
        open_.append((text, place))
    elif not open_:
        yield PromqlError(place, "bad-promql", f"this {text} closes nothing")
    elif open_[-1][0] != _CLOSES[text]:
        yield PromqlError(place, "bad-promql", f"this {text} does not close the {open_.pop()[0]} before it")
    else:
        open_.pop()


def _in_backticks(text: str, place: int) -> Iterator[PromqlError]:
    for found in REFERENCE.finditer(text):
        if found[1] is None:
            hint = "put the value into double quotes"
            yield PromqlError(place + found.start(), "bad-reference", f"{found.group()} between backticks", hint)


def _outside(text: str, place: int, parameters: Mapping[str, Parameter]) -> Iterator[PromqlError]:
    found = REFERENCE.fullmatch(text)
    if found is None or found[1] is not None or found[2] not in parameters:
        return
    kind = parameters[found[2]].type
    if kind not in _BARE:
        hint = f'write "{text}" in quotes; only {", ".join(sorted(_BARE))} may stand without'
        yield PromqlError(place, "bad-reference", f"{text} is a {kind} and stands in PromQL without quotes", hint)
