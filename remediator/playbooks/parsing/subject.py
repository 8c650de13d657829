"""The input of the semantic checks: one playbook with its nodes and all names that it can use."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from remediator.playbooks.catalogue import Catalogue
from remediator.playbooks.diagnostics import Diagnostic
from remediator.playbooks.inventory import Inventory
from remediator.playbooks.model import Playbook
from remediator.playbooks.parsing.nodes import Items, Node, Path, Scalar, Table, child, find, key_of


@dataclass(frozen=True, slots=True)
class Call:
    """A place where a playbook names an action or a check."""

    path: Path
    """The path of the mapping that contains ``action`` or ``check``."""
    kind: str
    """``action`` or ``check``."""
    name: str
    given: Mapping[str, Any]
    """The content of ``with``."""


@dataclass(frozen=True, slots=True)
class CheckSubject:
    """A playbook that is checked."""

    playbook: Playbook
    root: Node
    """The nodes of the playbook, with its fragments merged."""
    catalogue: Catalogue
    inventory: Inventory | None
    """The inventory; None if it cannot be read. Checks that need it are then skipped."""
    written: Node | None = None
    """The nodes before the wrong parts were removed; None if nothing was removed."""

    def written_names(self, section: str) -> frozenset[str]:
        """Return the names of parameters, or the IDs of diagnoses or steps, valid or not.

        Checks of references use it: an error in a declaration must not cause another error at every use.
        """
        listed = child(self.written or self.root, section)
        if isinstance(listed, Table):
            return frozenset(listed.entries)
        items = listed.items if isinstance(listed, Items) else []
        named = [child(item, "id") for item in items]
        return frozenset(str(name.value) for name in named if isinstance(name, Scalar))

    def contains(self, path: Path) -> bool:
        """Return whether the file contains this path."""
        return not find(self.root, path)[1]

    def diagnostic(self, path: Path, rule: str, message: str, hint: str = "", *, offset: int = 0) -> Diagnostic:
        """Return an error at a path, or at its nearest parent that the file contains."""
        return find(self.root, path)[0].diagnostic(rule, message, hint, offset=offset)

    def key_diagnostic(self, path: Path, rule: str, message: str, hint: str = "") -> Diagnostic:
        """Return an error at the key of a path."""
        node = key_of(self.root, path) or find(self.root, path)[0]
        return node.diagnostic(rule, message, hint)

    @property
    def calls(self) -> Iterator[Call]:
        """Yield every action and check that the playbook names, in order."""
        for at, look in enumerate(self.playbook.diagnose):
            kind = "check" if look.check is not None else "action"
            yield Call(("diagnose", at), kind, str(look.check or look.action), look.with_)
        for at, step in enumerate(self.playbook.steps):
            yield Call(("steps", at), "action", step.action, step.with_)
            if step.undo is not None and step.undo.action is not None:
                yield Call(("steps", at, "undo"), "action", step.undo.action, step.undo.with_)
        for at, check in enumerate(self.playbook.verify.checks):
            yield Call(("verify", "checks", at), "check", check.check, check.with_)
