"""Read the risks of an action's plans and the action of its undo from its source: only its methods have them."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator

from remediator.extensions.actions.base import Action

_VALUES = {
    "', '.join(names)": "SERVICES",
    "current.label": "NEW_RELEASE",
    "format_duration(backups.grace)": "the grace period (`backups.grace` in the inventory)",
    "held_by(seen)": "",  # a sentence about who manages the object, or nothing
    "restored.label": "OLD_RELEASE",
    "taken": "TIME",
}
"""The name of each value in a sentence about risk, by its expression."""


def risks(action: type[Action]) -> tuple[str, ...]:
    """Return the sentences about risk that the plans of an action can contain, with a name for a value of the plan."""
    nodes = list(_nodes(action))
    found = [each.value for each in nodes if isinstance(each, ast.keyword) and each.arg == "risk"]
    found += [each.value for each in nodes if isinstance(each, ast.Assign) and ast.unparse(each.targets[0]) == "risk"]
    return tuple(dict.fromkeys(text for node in found for text in _texts(node)))


def undone_by(action: type[Action]) -> tuple[str, ...]:
    """Return the actions that can undo an action."""
    calls = (each for each in _nodes(action) if isinstance(each, ast.Call) and ast.unparse(each.func) == "UndoCall")
    names = (each.args[0].value if isinstance(each.args[0], ast.Constant) else action.name for each in calls)
    return tuple(dict.fromkeys(str(name) for name in names))


def _nodes(action: type[Action]) -> Iterator[ast.AST]:
    return ast.walk(ast.parse(inspect.getsource(inspect.getmodule(action) or action)))


def _texts(node: ast.expr) -> Iterator[str]:
    if isinstance(node, ast.IfExp):
        yield from _texts(node.body)
        yield from _texts(node.orelse)
    elif isinstance(node, ast.JoinedStr):
        yield "".join(
            _VALUES[ast.unparse(each.value)] if isinstance(each, ast.FormattedValue) else str(ast.literal_eval(each))
            for each in node.values
        )
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
