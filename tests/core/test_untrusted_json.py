"""JSON from outside of the service: every error in it has the same type."""

from __future__ import annotations

import ast
from pathlib import Path

import msgspec
import pytest

import remediator
from remediator.core import untrusted_json

OWN = {
    "audit/canonical.py": "the inner loop of the verifier; its callers expect both errors",
    "audit/export.py": "one decoder for all lines; its caller expects both errors",
    "authoring/testing/execute.py": "entries of the audit log of this test",
    "clients/docker/socket_proxy.py": "a body that was encoded in the same line",
    "clients/host/quarantine.py": "runs on another host with the standard library alone; expects both errors",
    "clients/ssh/wrapper.py": "runs on another host without this package",
    "core/alert.py": "one decoder for all requests; `decoded` makes both errors one",
    "extensions/conformance.py": "a call that was encoded in the same line",
    "extensions/sources/grafana.py": "one decoder for all requests, used through `decoded`",
    "extensions/sources/json.py": "used through `decoded`",
    "runtime/build.py": "a file of the installed package",
    "runtime/reconcile.py": "labels that were encoded in the same function",
    "runtime/slack_events.py": "what this service put into a dialog; Slack signs the request that brings it back",
    "storage/__init__.py": "what this service encoded",
    "storage/column_types.py": "a column that this service wrote",
    "web/api.py": "entries that this service wrote",
    "web/frame.py": "the content of a token that this service signed",
    "web/playbook_pages.py": "what a command of this service printed",
}
"""Modules that decode JSON without this function, and why their text does not come from outside."""


class _Document(msgspec.Struct):
    a: int = 0
    b: str = ""


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b'{"unknown":' * 100_000, "nested too deeply"),
        (b'{"b": "\xff"}', "not UTF-8"),
        ('{"b": "\ud800"}', "not UTF-8"),
        (b"{", "truncated"),
        (b"", "truncated"),
        (b'{"a": "x"}', r"Expected `int`, got `str` - at `\$.a`"),
    ],
)
def test_each_fault_is_the_same_kind_of_error(content: bytes | str, error: str) -> None:
    """Too deep nesting, invalid UTF-8, truncated text and a wrong type raise the same exception, with the reason."""
    with pytest.raises(msgspec.DecodeError, match=error):
        untrusted_json.decode(content, _Document)


def test_valid_json_is_decoded() -> None:
    """Valid JSON as bytes or text is decoded, with or without an expected type."""
    assert untrusted_json.decode(b'{"a": [1, null]}') == {"a": [1, None]}
    assert untrusted_json.decode("[1]", list[int]) == [1]


def _decodes(path: Path) -> bool:
    names = {
        ast.unparse(node)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)
    }
    return bool(names & {"json.loads", "json.load", "msgspec.json.decode", "msgspec.json.Decoder"})


def test_input_from_outside_is_decoded_here_only() -> None:
    """No other module decodes JSON from outside, because callers forget that too deep nesting raises another error."""
    root = Path(remediator.__file__).parent
    found = {str(path.relative_to(root)) for path in root.rglob("*.py") if _decodes(path)}
    assert found == {*OWN, "core/untrusted_json.py"}
