"""``nobody-to-ask``: the settings file names no Alertmanager or no Prometheus, and playbooks depend on it."""

from __future__ import annotations

from collections.abc import Iterator

from remediator.authoring.lint import Context, Rule
from remediator.playbooks.diagnostics import Diagnostic
from remediator.playbooks.parsing.nodes import Node, data


class NobodyToAsk(Rule):
    """Settings without ``alertmanagers`` under playbooks that act, or without ``prometheus`` under PromQL."""

    id = "nobody-to-ask"
    what = "A playbook needs an Alertmanager or a Prometheus that the settings file does not name."
    why = "It is then unknown whether an alert still fires or a remedy helped, so every run waits for a person."
    mend = "add it to the settings file: alertmanagers: [{url: …}], prometheus: {url: …}"

    def check(self, context: Context) -> Iterator[Diagnostic]:
        if context.settings is None:
            return
        given = data(context.settings)
        known = {name for name, value in given.items() if value} if isinstance(given, dict) else set()
        if "alertmanagers" not in known:
            yield from self._no_alertmanager(context, context.settings)
        if "prometheus" not in known:
            yield from self._no_prometheus(context)

    def _no_alertmanager(self, context: Context, settings: Node) -> Iterator[Diagnostic]:
        acting = [each.name for each in context.playbooks if context.changes(each) and each.modes & {"auto", "approve"}]
        if acting:
            message = f"no Alertmanager can be asked whether an alert still fires, and {acting[0]!r} acts"
            yield settings.finding(self.id, message, self.mend, self.severity)

    def _no_prometheus(self, context: Context) -> Iterator[Diagnostic]:
        for playbook in context.playbooks:
            for call in context.calls(playbook):
                if call.kind == "check" and call.name in context.catalogue.uses_prometheus:
                    message = f"{call.name} asks Prometheus, and the settings file names none"
                    yield self.at(context, playbook, (*call.path, "check"), message)
                    break
