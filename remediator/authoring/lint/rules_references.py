"""Rules about the references of a playbook: fragments, channels, data sources and PromQL functions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from remediator.authoring.lint import LintContext, Rule
from remediator.playbooks.diagnostics import Diagnostic, Severity, did_you_mean
from remediator.playbooks.parsing.nodes import Node, Path, data, find, walk
from remediator.playbooks.parsing.promql import UNKNOWN_FUNCTION, parse_error
from remediator.playbooks.references import references

_ACTING = frozenset({"approve", "auto"})
"""Modes in which a playbook can change something."""


class NoDataSource(Rule):
    """A playbook needs an Alertmanager or a Prometheus that the settings file does not name."""

    id = "no-data-source"
    why = "It is then unknown whether an alert still fires or a remedy helped, so every run waits for a person."
    fix = "add it to the settings file: alertmanagers: [{url: …}], prometheus: {url: …}"

    def check(self, context: LintContext) -> Iterator[Diagnostic]:
        if context.settings is None:
            return
        given = data(context.settings)
        known = {name for name, value in given.items() if value} if isinstance(given, dict) else set()
        if not known & {"alertmanagers", "sources"}:
            acting = [item.name for item in context.playbooks if context.mutates(item) and item.modes & _ACTING]
            if acting:
                message = f"{acting[0]!r} acts on alerts, but the settings file names no Alertmanager"
                yield self.at_node(context.settings, message)
        for playbook in context.playbooks if "prometheus" not in known else ():
            for call in context.subject(playbook).calls:
                if call.kind == "check" and call.name in context.catalogue.uses_prometheus:
                    message = f"{call.name} needs Prometheus, but the settings file contains no Prometheus"
                    yield self.at(context, playbook, (*call.path, "check"), message)
                    break


class UnknownChannel(Rule):
    """A playbook, the owner of a service or watchdog.notify names a channel that the settings file does not define."""

    id = "unknown-channel"
    why = "The message is written to the log only, and no person is notified."
    fix = "add the channel to the settings file, or correct its name"

    def check(self, context: LintContext) -> Iterator[Diagnostic]:
        channels = context.channels
        if channels is None:
            return
        for playbook in context.playbooks:
            for at, name in enumerate(playbook.escalate.to):
                if name not in channels:
                    message = f"the settings file does not define the channel {name!r}"
                    yield self.at(context, playbook, ("escalate", "to", at), message, did_you_mean(name, channels))
        for node, name in self._named(context):
            if name not in channels:
                message = f"the settings file does not define the channel {name!r}"
                yield self.at_node(node, message, did_you_mean(name, channels))

    def _named(self, context: LintContext) -> Iterator[tuple[Node, str]]:
        """Yield the channels that the inventory and the settings name."""
        for path, scalar in () if context.inventory_root is None else walk(context.inventory_root):
            place = (path[0], len(path))
            is_owner = path[-1] == "owner" and place in (("defaults", 2), ("services", 3), ("discover", 4))
            if is_owner and isinstance(scalar.value, str) and not any(references(scalar.value)):
                yield scalar, scalar.value
        if context.config is not None and context.settings is not None:
            for at, name in enumerate(context.config.watchdog.notify):
                node, left = find(context.settings, ("watchdog", "notify", at))
                if not left:  # doctor reports the default: lint reads what is written
                    yield node, name


class UnknownFunction(Rule):
    """A PromQL expression calls an unknown function."""

    id = "unknown-function"
    why = "If Prometheus does not have the metric either, the check is unknown, and a person is asked."
    fix = "correct the name; if your Prometheus is newer than this remediator, suppress the rule with that reason"

    def check(self, context: LintContext) -> Iterator[Diagnostic]:
        for playbook in context.playbooks:
            for path, query in (*playbook.promql, *self._in_guards(playbook.guards.settings, ("guards",))):
                error = parse_error(query, playbook.parameters)
                if error is not None and error.startswith(UNKNOWN_FUNCTION):
                    yield self.at(context, playbook, path, error)

    def _in_guards(self, value: Any, path: Path) -> Iterator[tuple[Path, str]]:
        if isinstance(value, dict):
            for key, item in value.items():
                if key == "promql" and isinstance(item, str):
                    yield (*path, key), item
                else:
                    yield from self._in_guards(item, (*path, key))
        elif isinstance(value, list | tuple):
            for at, item in enumerate(value):
                yield from self._in_guards(item, (*path, at))


class UnusedFragment(Rule):
    """No playbook uses or includes this fragment."""

    id = "unused-fragment"
    severity = Severity.INFO
    why = "A change to the fragment changes no playbook."
    fix = "use it, or remove it"

    def check(self, context: LintContext) -> Iterator[Diagnostic]:
        used = {
            str(scalar.value)
            for root in context.loaded.roots
            for path, scalar in walk(root)
            if path[0] == "use" or path[-1] == "include"
        }
        for name, fragment in context.loaded.fragments.items():
            if name not in used:
                message = f"no playbook uses or includes the fragment {name!r}"
                yield self.at_node(fragment.entries["name"].value, message)
