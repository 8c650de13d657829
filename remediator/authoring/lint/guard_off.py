"""``guard-off``: a guard is switched off."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from remediator.authoring.lint import Context, Rule
from remediator.extensions.guards.base import Settings
from remediator.playbooks.diagnostics import Diagnostic
from remediator.playbooks.parsing import check_guards
from remediator.playbooks.parsing.nodes import Node, data, find, key_of


class GuardOff(Rule):
    """Every entry of ``guards.off``: the reason is for the audit log, this is for the reviewer. And settings of a guard
    that leave nothing of it, or not all."""

    id = "guard-off"
    what = "A guard is turned off, by name or by settings that disable it."
    why = "Guards keep a remedy from making an incident worse. A reviewer should see each guard that is off."
    mend = "leave it on, or accept it here with a date: # remediator: off guard-off until DATE because REASON"

    def check(self, context: Context) -> Iterator[Diagnostic]:
        for playbook in context.playbooks:
            for at, off in enumerate(playbook.guards.off):
                message = f"the guard {off.guard} is switched off: {off.reason}"
                yield self.at(context, playbook, ("guards", "off", at, "guard"), message)
            for name, how in _by_settings(context, playbook.guards.settings):
                message = f"the guard {name} is switched off, all of it or a part: {how}"
                yield self.at(context, playbook, ("guards", name), message, key=True)
        if context.settings is not None:
            yield from self._everywhere(context, context.settings)

    def _everywhere(self, context: Context, root: Node) -> Iterator[Diagnostic]:
        for at, off in check_guards.switched_off(root):
            message = f"the guard {off.guard} is switched off everywhere: {off.reason}"
            yield find(root, ("guards", "off", at, "guard"))[0].finding(self.id, message, self.mend, self.severity)
        given = data(root)
        settings = given.get("guards") if isinstance(given, dict) else None
        for name, how in _by_settings(context, settings if isinstance(settings, dict) else {}):
            place = key_of(root, ("guards", name)) or root
            message = f"the guard {name} is switched off everywhere, all of it or a part: {how}"
            yield place.finding(self.id, message, self.mend, self.severity)


def _by_settings(context: Context, given: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Guards of which these settings leave nothing, or not all, and how."""
    for name, value in given.items():
        model = context.catalogue.guards.get(name)
        try:
            made = None if model is None else model.model_validate(value)
        except ValidationError:
            continue  # what is wrong with it is said elsewhere
        if isinstance(made, Settings) and (how := made.off()):
            yield name, how
