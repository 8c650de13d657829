"""Rules about the limits of a playbook: guards, approvals and modes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from remediator.authoring.lint import LintContext, Rule
from remediator.extensions.guards.base import Settings
from remediator.playbooks.diagnostics import Diagnostic, Severity
from remediator.playbooks.parsing.check_settings import disabled_guards
from remediator.playbooks.parsing.nodes import data, find, key_of


class DestructiveAuto(Rule):
    """A playbook in mode auto has a step whose action may lose data, but the step does not require an approval."""

    id = "destructive-auto"
    why = "Such a step needs an approval in every mode. A reader of the file expects that it runs automatically."
    fix = "write approval: required on the step, so that the file shows the behaviour"

    def check(self, context: LintContext) -> Iterator[Diagnostic]:
        for playbook in context.playbooks:
            if "auto" not in playbook.modes or playbook.approval.required:
                continue
            for at, step in enumerate(playbook.steps):
                if context.traits(step).destructive and step.approval != "required":
                    message = (
                        f"{step.action} may lose data, so it needs an approval in mode auto too; the step does "
                        "not set approval: required"
                    )
                    yield self.at(context, playbook, ("steps", at, "action"), message)


class GuardOff(Rule):
    """A guard is turned off, by name or by settings that disable it."""

    id = "guard-off"
    why = "Guards keep a remedy from making an incident worse. A reviewer should see each guard that is off."
    fix = "leave it on, or accept it here with a date: # remediator: off guard-off until DATE because REASON"

    def check(self, context: LintContext) -> Iterator[Diagnostic]:
        for playbook in context.playbooks:
            for at, off in enumerate(playbook.guards.off):
                message = f"the guard {off.guard} is turned off: {off.reason}"
                yield self.at(context, playbook, ("guards", "off", at, "guard"), message)
            for name, how in self._off_by_settings(context, playbook.guards.settings):
                message = f"the settings turn off the guard {name}, or a part of it: {how}"
                yield self.at(context, playbook, ("guards", name), message, key=True)
        root = context.settings
        if root is None:
            return
        for at, off in disabled_guards(root):
            message = f"the guard {off.guard} is turned off for all playbooks: {off.reason}"
            yield self.at_node(find(root, ("guards", "off", at, "guard"))[0], message)
        given = data(root)
        settings = given.get("guards") if isinstance(given, dict) else None
        for name, how in self._off_by_settings(context, settings if isinstance(settings, dict) else {}):
            message = f"the settings turn off the guard {name}, or a part of it, for all playbooks: {how}"
            yield self.at_node(key_of(root, ("guards", name)) or root, message)

    def _off_by_settings(self, context: LintContext, given: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """Yield each guard that its settings turn off, fully or in part, and how they do it."""
        for name, value in given.items():
            model = context.catalogue.guards.get(name)
            try:
                settings = None if model is None else model.model_validate(value)
            except ValidationError:
                continue  # reported by the loader
            if isinstance(settings, Settings) and (how := settings.off()):
                yield name, how


class NoDefaultMode(Rule):
    """mode lists environments but has no default for other environments."""

    id = "no-default-mode"
    severity = Severity.INFO
    why = "A misspelled environment silently means approve."
    fix = "add default: approve, or the mode you want"

    def check(self, context: LintContext) -> Iterator[Diagnostic]:
        for playbook in context.playbooks:
            if isinstance(playbook.mode, dict) and "default" not in playbook.mode:
                message = "environments that mode does not list use approve"
                yield self.at(context, playbook, ("mode",), message, key=True)
