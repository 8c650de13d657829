"""Lint: what a playbook risks. A rule is one file, looks at everything that was read, and returns findings.

What keeps a file from being used at all is found by the loader; rules warn of what can be used and should not be, or
not without a thought. A rule never prints, a reporter never decides.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import ClassVar

from remediator.playbooks.catalogue import ActionTraits, Catalogue
from remediator.playbooks.diagnostics import Diagnostic, Severity
from remediator.playbooks.inventory import Inventory
from remediator.playbooks.loader import LoadResult
from remediator.playbooks.model import Playbook, Step
from remediator.playbooks.parsing.nodes import Node, Path, find, key_of
from remediator.playbooks.parsing.subject import Call, CheckSubject


@dataclass(frozen=True, slots=True)
class AlertRule:
    """An alert as Prometheus' rule files define it."""

    name: str
    expression: str
    labels: Mapping[str, str]
    file: str


@dataclass(frozen=True, slots=True)
class Context:
    """Everything that rules may look at."""

    read: LoadResult
    catalogue: Catalogue
    inventory: Inventory | None
    today: date
    alerts: Sequence[AlertRule] | None = None
    """None where no rule files are known; what depends on them is not checked then."""
    channels: frozenset[str] | None = None
    """Of the settings file; None where it is not known."""
    settings: Node | None = None
    """The settings file; None where there is none, or it cannot be read."""
    watchdog: str = "Watchdog"
    tests: frozenset[str] = field(default_factory=frozenset)
    """Names of playbooks that have a test beside them."""

    @property
    def playbooks(self) -> tuple[Playbook, ...]:
        """Those that can be used, in the order of their names."""
        return self.read.playbooks

    def subject(self, playbook: Playbook) -> CheckSubject:
        """A playbook with its places."""
        return CheckSubject(playbook, self.read.documents[playbook.name], self.catalogue, self.inventory)

    def traits(self, step: Step) -> ActionTraits:
        """What a step's action declares of itself."""
        return self.catalogue.traits_of(step.action)

    def changes(self, playbook: Playbook) -> bool:
        """Whether it ever does more than look."""
        return any(self.traits(step).mutates for step in playbook.steps)

    def calls(self, playbook: Playbook) -> Iterator[Call]:
        """Every action and check that it names."""
        yield from self.subject(playbook).calls


class Rule(ABC):
    """One idea of what to warn of. Its id is its file's name with ``-`` for ``_``."""

    id: ClassVar[str]
    severity: ClassVar[Severity] = Severity.WARNING
    what: ClassVar[str]
    """What it finds, in a sentence."""
    why: ClassVar[str]
    """What may happen at 3 a.m."""
    mend: ClassVar[str]
    """How to mend it."""

    @abstractmethod
    def check(self, context: Context) -> Iterator[Diagnostic]:
        """Everything that it finds."""

    def at(
        self, context: Context, playbook: Playbook, path: Path, message: str, hint: str = "", *, key: bool = False
    ) -> Diagnostic:
        """A finding at a path of a playbook, or at the nearest thing above it that is written.

        Args:
            context: what was read.
            playbook: in which playbook.
            path: where.
            message: what is risky.
            hint: how to mend it; default: as the rule says.
            key: point at the key and not at its value.
        """
        root: Node = context.read.documents[playbook.name]
        node = find(root, path)[0]
        if node is root:  # nothing of it is written: the playbook as a whole is meant
            node = find(root, ("name",))[0]
        elif key:
            node = key_of(root, path) or node
        return node.finding(self.id, message, hint or self.mend, self.severity)
