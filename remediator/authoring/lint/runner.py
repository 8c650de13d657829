"""The list of rules, and running them: read everything, ask every rule, take out what is switched off."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from remediator.authoring.lint import Context, Rule
from remediator.authoring.lint.alerting import read_alerts
from remediator.authoring.lint.destructive_auto import DestructiveAuto
from remediator.authoring.lint.errors import ERRORS
from remediator.authoring.lint.guard_off import GuardOff
from remediator.authoring.lint.matches_everything import MatchesEverything
from remediator.authoring.lint.matches_watchdog import MatchesWatchdog
from remediator.authoring.lint.needless_anchor import NeedlessAnchor
from remediator.authoring.lint.no_default_mode import NoDefaultMode
from remediator.authoring.lint.no_escalation import NoEscalation
from remediator.authoring.lint.no_summary import NoSummary
from remediator.authoring.lint.no_test import NoTest
from remediator.authoring.lint.no_verify import NoVerify
from remediator.authoring.lint.nobody_to_ask import NobodyToAsk
from remediator.authoring.lint.not_a_template import NotATemplate
from remediator.authoring.lint.overlap import Overlap
from remediator.authoring.lint.proof_by_absence import ProofByAbsence
from remediator.authoring.lint.snooze import apply
from remediator.authoring.lint.unbounded_parameter import UnboundedParameter
from remediator.authoring.lint.unknown_alert import UnknownAlert
from remediator.authoring.lint.unknown_channel import UnknownChannel
from remediator.authoring.lint.unknown_function import UnknownFunction
from remediator.authoring.lint.unknown_label import UnknownLabel
from remediator.authoring.lint.unreachable_step import UnreachableStep
from remediator.authoring.lint.unused_fragment import UnusedFragment
from remediator.authoring.lint.unused_parameter import UnusedParameter
from remediator.authoring.lint.weak_proof import WeakProof
from remediator.playbooks.catalogue import Catalogue
from remediator.playbooks.diagnostics import Diagnostic, Severity
from remediator.playbooks.inventory import Inventory
from remediator.playbooks.loader import ParsedFile, load_playbooks, read_model
from remediator.playbooks.parsing.check_settings import in_settings
from remediator.playbooks.parsing.nodes import Scalar, Text, child
from remediator.playbooks.parsing.yaml_reader import read_file

RULES: tuple[type[Rule], ...] = (
    DestructiveAuto,
    GuardOff,
    MatchesEverything,
    MatchesWatchdog,
    NeedlessAnchor,
    NoDefaultMode,
    NoEscalation,
    NoSummary,
    NoTest,
    NoVerify,
    NobodyToAsk,
    NotATemplate,
    Overlap,
    ProofByAbsence,
    UnboundedParameter,
    UnknownAlert,
    UnknownChannel,
    UnknownFunction,
    UnknownLabel,
    UnreachableStep,
    UnusedFragment,
    UnusedParameter,
    WeakProof,
)


@dataclass(frozen=True, slots=True)
class Sources:
    """What to lint, and what to hold it against."""

    playbooks: Sequence[Path]
    """Files and folders."""
    inventory: Path | None = None
    config: Path | None = None
    alerting: Sequence[Path] | None = None
    """Prometheus rule files; None where there are none to compare with."""


@dataclass(frozen=True, slots=True)
class Report:
    """What lint found."""

    findings: tuple[Diagnostic, ...]
    off: tuple[Diagnostic, ...] = ()
    """Found, and switched off by an exception."""
    playbooks: int = 0
    """How many can be used."""
    files: int = 0
    remarks: tuple[str, ...] = field(default_factory=tuple)
    """What could not be compared with, and why."""

    def at_least(self, severity: Severity) -> tuple[Diagnostic, ...]:
        """The findings that are as bad or worse."""
        return tuple(item for item in self.findings if item.severity.weight >= severity.weight)

    @property
    def counts(self) -> Mapping[Severity, int]:
        """How many there are of each severity."""
        return {each: sum(item.severity is each for item in self.findings) for each in Severity}


def lint(sources: Sources, catalogue: Catalogue, config_model: type[BaseModel], today: date) -> Report:
    """Read everything, ask every rule, take out what is switched off.

    Raises:
        ConfigurationError: rule files cannot be read.
    """
    inventory = _optional(sources.inventory, Inventory)
    settings = _optional(sources.config, config_model)
    read = load_playbooks(sources.playbooks, catalogue, inventory.model)
    config: Any = settings.model
    context = Context(
        read=read,
        catalogue=catalogue,
        inventory=inventory.model,
        today=today,
        alerts=None if sources.alerting is None else read_alerts(sources.alerting),
        channels=None if config is None else frozenset(config.channels),
        settings=settings.root,
        watchdog="Watchdog" if config is None else config.watchdog.alertname,
        tests=_tested(read.texts),
    )
    found = [finding for rule in RULES for finding in rule().check(context)]
    texts = [*read.texts.values(), *(each.root.text for each in (inventory, settings) if each.root is not None)]
    meant = [] if settings.root is None else list(in_settings(catalogue, settings.root))
    everything = [*inventory.findings, *settings.findings, *meant, *read.findings, *found]
    names = {rule.id for rule in RULES}
    standing, off = apply(everything, texts, names, ERRORS, today)
    return Report(tuple(sorted(standing)), tuple(off), len(read.playbooks), len(texts), tuple(_remarks(sources)))


def _optional(path: Path | None, model: type[Any]) -> ParsedFile[Any]:
    return ParsedFile(None, None, ()) if path is None else read_model(path, model)


def _tested(texts: Mapping[str, Text]) -> frozenset[str]:
    paths = [Path(name) for name in texts]
    return frozenset(
        path.stem
        for path in paths
        if any(path.with_name(f"{path.stem}.test{suffix}").is_file() for suffix in (".yaml", ".yml"))
    )


def _remarks(sources: Sources) -> Sequence[str]:
    remarks = []
    if sources.inventory is None:
        remarks.append("no inventory: services are not checked")
    if sources.alerting is None:
        remarks.append("no rule files: alertnames and labels are not checked")
    if sources.config is None:
        remarks.append("no settings file: channels are not checked")
    return remarks


def kind_of(path: Path) -> str:
    """What a file says that it is; empty if it cannot be read or does not say."""
    root, _ = read_file(path)
    value = child(root, "kind") if root is not None else None
    return value.value if isinstance(value, Scalar) and isinstance(value.value, str) else ""
