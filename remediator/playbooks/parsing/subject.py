"""What the checks of meaning look at: one playbook with its nodes and everything that it may name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from remediator.playbooks.catalogue import Catalogue
from remediator.playbooks.diagnostics import Diagnostic, Severity
from remediator.playbooks.inventory import Inventory
from remediator.playbooks.model import Playbook
from remediator.playbooks.parsing.nodes import Items, Node, Path, Scalar, Table, child, find, key_of


@dataclass(frozen=True, slots=True)
class Call:
    """One place where a playbook names an action or a check."""

    path: Path
    """Of the mapping that holds ``action`` or ``check``."""
    kind: str
    """``action`` or ``check``."""
    name: str
    given: Mapping[str, Any]
    """Its ``with``."""


@dataclass(frozen=True, slots=True)
class CheckSubject:
    """A playbook under examination."""

    playbook: Playbook
    root: Node
    """Its nodes, fragments put in."""
    catalogue: Catalogue
    inventory: Inventory | None
    """None where it could not be read; what depends on it is not checked then."""
    written: Node | None = None
    """Its nodes with all that is wrong with them, where some of it was taken out."""

    def written_names(self, section: str) -> frozenset[str]:
        """Parameters, or ids of diagnoses or steps, as they are written, right or wrong: so that one mistake in a
        declaration is not said again at every use."""
        listed = child(self.written or self.root, section)
        if isinstance(listed, Table):
            return frozenset(listed.entries)
        items = listed.items if isinstance(listed, Items) else []
        named = [child(item, "id") for item in items]
        return frozenset(str(name.value) for name in named if isinstance(name, Scalar))

    def knows(self, path: Path) -> bool:
        """Whether there is something written at a path."""
        return not find(self.root, path)[1]

    def finding(
        self,
        path: Path,
        rule: str,
        message: str,
        hint: str = "",
        *,
        offset: int = 0,
        severity: Severity = Severity.ERROR,
    ) -> Diagnostic:
        """What is wrong at a path, or at the nearest thing above it that is written."""
        return find(self.root, path)[0].finding(rule, message, hint, severity, offset)

    def key_finding(
        self, path: Path, rule: str, message: str, hint: str = "", severity: Severity = Severity.ERROR
    ) -> Diagnostic:
        """The same, pointing at the key."""
        node = key_of(self.root, path) or find(self.root, path)[0]
        return node.finding(rule, message, hint, severity)

    @property
    def calls(self) -> Iterator[Call]:
        """Every action and check that the playbook names, in order."""
        for at, look in enumerate(self.playbook.diagnose):
            kind = "check" if look.check is not None else "action"
            yield Call(("diagnose", at), kind, str(look.check or look.action), look.with_)
        for at, step in enumerate(self.playbook.steps):
            yield Call(("steps", at), "action", step.action, step.with_)
            if step.undo is not None and step.undo.action is not None:
                yield Call(("steps", at, "undo"), "action", step.undo.action, step.undo.with_)
        for at, check in enumerate(self.playbook.verify.checks):
            yield Call(("verify", "checks", at), "check", check.check, check.with_)
