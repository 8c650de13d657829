"""Lint: find risks in playbooks that load without errors. The loader finds the errors.

A rule reads everything that was loaded and yields diagnostics. A rule never prints, and a reporter never decides.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from remediator.config import Config
from remediator.core.identity import People
from remediator.playbooks.catalogue import ActionTraits, Catalogue
from remediator.playbooks.diagnostics import Diagnostic, Severity
from remediator.playbooks.inventory import Inventory
from remediator.playbooks.loader import LoadResult
from remediator.playbooks.model import Playbook
from remediator.playbooks.parsing.nodes import Node, Path, find, key_of
from remediator.playbooks.parsing.subject import CheckSubject
from remediator.playbooks.steps import Step
from remediator.runtime.preflight import RightsProblem


@dataclass(frozen=True, slots=True)
class AlertRule:
    """An alerting rule of a Prometheus rule file."""

    name: str
    expression: str
    labels: Mapping[str, str]
    file: str


@dataclass(frozen=True, slots=True)
class LivePrometheus:
    """The current alerts, labels and metrics of a running Prometheus."""

    url: str
    rules: Sequence[AlertRule]
    labels: Mapping[str, frozenset[str]]
    """The metrics that the rules and the playbooks use, each with the labels of its series; no labels without series.
    """
    names: frozenset[str]
    """The names of all metrics."""


@dataclass(frozen=True, slots=True)
class LintContext:
    """Everything that the rules can read."""

    loaded: LoadResult
    catalogue: Catalogue
    inventory: Inventory | None
    alerts: Sequence[AlertRule] | None = None
    """None without rule files; alert names and labels are not checked then."""
    unreadable_rules: Sequence[tuple[str, int, str]] = ()
    """The rule files that cannot be read: file, line and reason."""
    known_labels: frozenset[str] = frozenset()
    """Labels that alerts get after their rule, from the settings file."""
    channels: frozenset[str] | None = None
    """Channels of the settings file; None without a settings file."""
    people: People | None = None
    """The people file; None if the settings name none, or if it has errors."""
    inventory_root: Node | None = None
    """The inventory file; None without one, or if it cannot be read."""
    live: LivePrometheus | None = None
    """The alerts, labels and metrics of a running Prometheus; None without ``--prometheus``."""
    settings: Node | None = None
    """The settings file; None without one, or if it cannot be read."""
    config: Config | None = None
    """The settings; None without them, or if they cannot be used."""
    watchdog: str = "Watchdog"
    tested: frozenset[str] = frozenset()
    """Names of the playbooks that have a test file."""
    rights: Sequence[RightsProblem] | None = None
    """The rights that the remediator lacks on its platforms; None if the platforms were not asked."""

    @property
    def playbooks(self) -> tuple[Playbook, ...]:
        """Return the playbooks that can be used, in the order of their names."""
        return self.loaded.playbooks

    def subject(self, playbook: Playbook) -> CheckSubject:
        """Return a playbook together with its nodes."""
        return CheckSubject(playbook, self.loaded.documents[playbook.name], self.catalogue, self.inventory)

    def traits(self, step: Step) -> ActionTraits:
        """Return the traits of the action of a step."""
        return self.catalogue.traits_of(step.action, step.with_)

    def mutates(self, playbook: Playbook) -> bool:
        """Return whether a step of the playbook changes something."""
        return any(self.traits(step).mutates for step in playbook.steps)


class Rule(ABC):
    """One lint rule. The reference prints the docstring of a subclass, which describes the findings of the rule."""

    id: ClassVar[str]
    severity: ClassVar[Severity] = Severity.WARNING
    why: ClassVar[str]
    """The risk."""
    fix: ClassVar[str]
    """How to fix it; the default hint of the diagnostics."""

    @classmethod
    def summary(cls) -> str:
        """Return a description of the findings."""
        return cls.__doc__ or ""

    @abstractmethod
    def check(self, context: LintContext) -> Iterator[Diagnostic]:
        """Yield a diagnostic for each place that the rule finds."""

    def at(
        self, context: LintContext, playbook: Playbook, path: Path, message: str, hint: str = "", *, key: bool = False
    ) -> Diagnostic:
        """Return a diagnostic at a path of a playbook, or at its nearest parent that the file contains.

        Args:
            context: what was loaded.
            playbook: the playbook.
            path: keys and positions from the root of the playbook.
            message: the risk.
            hint: how to fix it; default: :attr:`fix`.
            key: mark the key, not its value.
        """
        root: Node = context.loaded.documents[playbook.name]
        node = find(root, path)[0]
        if node is root:  # the file contains no part of the path: mark the name, not the whole file
            node = find(root, ("name",))[0]
        elif key:
            node = key_of(root, path) or node
        return self.at_node(node, message, hint)

    def at_node(self, node: Node, message: str, hint: str = "", offset: int = 0) -> Diagnostic:
        """Return a diagnostic at a node."""
        return node.diagnostic(self.id, message, hint or self.fix, self.severity, offset)
