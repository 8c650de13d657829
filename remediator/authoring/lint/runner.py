"""Run lint: load everything, check every rule, and remove suppressed findings."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from remediator.authoring.lint import (
    LintContext,
    Rule,
    rules_bindings,
    rules_causes,
    rules_guards,
    rules_installation,
    rules_match,
    rules_parameters,
    rules_references,
    rules_settings,
    rules_structure,
    rules_target,
    rules_verify,
)
from remediator.authoring.lint.alerting import read_alerts
from remediator.authoring.lint.errors import ERRORS
from remediator.authoring.lint.live import read_live
from remediator.authoring.lint.suppressions import apply
from remediator.clients.endpoints import Endpoint
from remediator.config import Config
from remediator.core.identity import People
from remediator.playbooks.catalogue import Catalogue
from remediator.playbooks.diagnostics import Diagnostic, Severity
from remediator.playbooks.discovered import with_examples
from remediator.playbooks.inventory import Inventory
from remediator.playbooks.loader import ParsedFile, load_inventory, load_playbooks, read_model
from remediator.playbooks.model import Playbook
from remediator.playbooks.parsing.check_settings import check_settings
from remediator.playbooks.parsing.nodes import Scalar, child
from remediator.playbooks.parsing.yaml_reader import read_file
from remediator.runtime.preflight import RightsProblem

RULES: tuple[type[Rule], ...] = (
    rules_target.AboutAny,
    rules_target.AlertFromElsewhere,
    rules_settings.CredentialInClear,
    rules_guards.DestructiveAuto,
    rules_guards.GuardOff,
    rules_match.MatchesEverything,
    rules_match.MatchesWatchdog,
    rules_installation.MissingProgram,
    rules_match.NeedlessAnchor,
    rules_installation.MissingRight,
    rules_causes.NegatedOk,
    rules_bindings.NeverActs,
    rules_bindings.NeverProved,
    rules_causes.NoCause,
    rules_settings.NoCheckpoints,
    rules_references.NoDataSource,
    rules_guards.NoDefaultMode,
    rules_structure.NoEscalation,
    rules_structure.NoSummary,
    rules_structure.NoTest,
    rules_verify.NoVerify,
    rules_installation.NotApprovable,
    rules_parameters.NotATemplate,
    rules_bindings.NotPossible,
    rules_match.Overlap,
    rules_settings.PasswordInSettings,
    rules_settings.PlainHttp,
    rules_verify.ProofByAbsence,
    rules_settings.ReadableSecret,
    rules_settings.ShortToken,
    rules_parameters.UnboundedParameter,
    rules_match.UnknownAlert,
    rules_references.UnknownChannel,
    rules_references.UnknownFunction,
    rules_match.UnknownLabel,
    rules_installation.UnknownMetric,
    rules_match.UnreadableRules,
    rules_structure.UnreachableStep,
    rules_references.UnusedFragment,
    rules_parameters.UnusedParameter,
    rules_verify.WeakProof,
    rules_settings.WideProxy,
    rules_settings.WritableSettings,
)


@dataclass(frozen=True, slots=True)
class Sources:
    """The files to lint, and the files to compare them with."""

    playbooks: Sequence[Path]
    """Files and folders."""
    inventory: Path | None = None
    config: Path | None = None
    alerting: Sequence[Path] | None = None
    """Prometheus rule files and folders; None to skip the rules that need them."""
    prometheus: Endpoint | None = None
    """A running Prometheus to compare with; its alert rules count in addition to the rules in the files."""


@dataclass(frozen=True, slots=True)
class Report:
    """The result of lint."""

    diagnostics: tuple[Diagnostic, ...]
    suppressed: tuple[Diagnostic, ...] = ()
    """Diagnostics that a comment suppresses."""
    playbooks: int = 0
    """Number of playbooks that can be used."""
    files: int = 0
    skipped: tuple[str, ...] = ()
    """The parts that were not checked, with the reason."""

    def at_least(self, severity: Severity) -> tuple[Diagnostic, ...]:
        """Return the diagnostics with this severity or a higher one."""
        return tuple(item for item in self.diagnostics if item.severity.weight >= severity.weight)

    @property
    def counts(self) -> Mapping[Severity, int]:
        """Return the number of diagnostics for each severity."""
        return {each: sum(item.severity is each for item in self.diagnostics) for each in Severity}


def lint(
    sources: Sources,
    catalogue: Catalogue,
    config_model: type[BaseModel],
    today: date,
    ask_rights: Callable[[tuple[Playbook, ...], Inventory], Sequence[RightsProblem]] | None = None,
) -> Report:
    """Load everything, check every rule, and remove suppressed findings.

    Args:
        sources: the files.
        catalogue: the known actions, checks and guards.
        config_model: the model of the settings file.
        today: the date with which suppressions expire.
        ask_rights: returns the rights that the playbooks lack on the platforms; None: make no connections.

    Raises:
        ClientError: the Prometheus does not answer.
    """
    nothing: ParsedFile[Any] = ParsedFile(None, None, ())
    inventory = nothing if sources.inventory is None else load_inventory(sources.inventory)
    settings = nothing if sources.config is None else read_model(sources.config, config_model)
    services = None if inventory.model is None else with_examples(inventory.model)
    loaded = load_playbooks(sources.playbooks, catalogue, services)
    config: Any = settings.model
    live = None if sources.prometheus is None else asyncio.run(read_live(sources.prometheus, loaded.playbooks))
    rules = None if sources.alerting is None and live is None else read_alerts(sources.alerting or ())
    # a people file is often only where the service runs; 'remediator doctor' reports one that is missing there
    named = None if config is None else config.access.people
    people = None if named is None or not named.exists() else read_model(named, People)
    files = [Path(name) for name in loaded.texts]
    context = LintContext(
        loaded=loaded,
        catalogue=catalogue,
        inventory=services,
        alerts=None if rules is None else (*rules.alerts, *(() if live is None else live.rules)),
        unreadable_rules=() if rules is None else rules.unreadable,
        known_labels=frozenset(() if config is None else config.known_labels),
        channels=None if config is None else frozenset(config.channels),
        settings=settings.root,
        config=config if isinstance(config, Config) else None,
        people=None if people is None else people.model,
        inventory_root=inventory.root,
        live=live,
        watchdog="Watchdog" if config is None else config.watchdog.alertname,
        tested=frozenset(
            file.stem
            for file in files
            if any(file.with_name(f"{file.stem}.test{suffix}").is_file() for suffix in (".yaml", ".yml"))
        ),
        rights=ask_rights(loaded.playbooks, inventory.model) if ask_rights and inventory.model else None,
    )
    found = [
        *inventory.diagnostics,
        *settings.diagnostics,
        *(() if settings.root is None else check_settings(catalogue, settings.root)),
        *loaded.diagnostics,
        *(() if people is None else people.diagnostics),
        *(diagnostic for rule in RULES for diagnostic in rule().check(context)),
    ]
    texts = [*loaded.texts.values(), *(each.root.text for each in (inventory, settings) if each.root is not None)]
    active, suppressed = apply(found, texts, {rule.id for rule in RULES}, ERRORS, today)
    skipped = (
        (sources.inventory, "no inventory: services are not checked"),
        (sources.alerting or live, "no rule files: alert names and labels are not checked"),
        (sources.config, "no settings file: channels are not checked"),
    )
    return Report(
        tuple(sorted(active)),
        tuple(suppressed),
        len(loaded.playbooks),
        len(texts),
        tuple(text for source, text in skipped if source is None),
    )


def kind_of(path: Path) -> str:
    """Return the ``kind`` that a file declares; empty if the file cannot be read or declares no kind."""
    root, _ = read_file(path)
    value = child(root, "kind") if root is not None else None
    return value.value if isinstance(value, Scalar) and isinstance(value.value, str) else ""
