"""Rules about the target: whether an alert that starts a playbook is about the service that it acts on."""

from __future__ import annotations

from collections.abc import Iterator

from remediator.authoring.lint import LintContext, Rule
from remediator.playbooks.diagnostics import Diagnostic
from remediator.playbooks.target_identity import Relation, compare, names_target, naming_matchers


class AboutAny(Rule):
    """A playbook acts for alerts that carry no label that names its target (about: {any: REASON})."""

    id = "about-any"
    why = "The alert can come from another host or namespace. The remedy then changes a healthy service."
    fix = "remove about, and give the alerts a label that names the target (alerts_as in the inventory)"

    def check(self, context: LintContext) -> Iterator[Diagnostic]:
        for playbook in context.playbooks:
            if playbook.about_any is not None:
                message = f"the alert does not have to name the target: {playbook.about_any}"
                yield self.at(context, playbook, ("about",), message, key=True)


class AlertFromElsewhere(Rule):
    """A playbook changes a fixed target, but neither a matcher nor the alert rules name this target by a label."""

    id = "alert-from-elsewhere"
    why = "An alert of another host, namespace or project starts the playbook too. Every such run is escalated."
    fix = 'add a matcher on a label that names the target, for example service="redis"'

    def check(self, context: LintContext) -> Iterator[Diagnostic]:
        if context.inventory is None:
            return
        for playbook in context.playbooks:
            fixed = playbook.target in context.inventory
            if not fixed or playbook.about_any is not None or not context.mutates(playbook):
                continue
            service = context.inventory.service(playbook.target)
            matched = any(names_target(matcher, service) for matcher in playbook.match.parsed)
            rules = [rule for rule in context.alerts or () if rule.name in playbook.match.alertname]
            known = {rule.name for rule in rules} == set(playbook.match.alertname) != set()
            # without a matcher, each rule that makes the alerts must set a label that names the service
            named = known and all(compare(rule.labels, service).relation is Relation.ABOUT for rule in rules)
            if not matched and not named:
                message = f"no matcher names the target {service.name}, so the alert can come from elsewhere"
                first, *others = naming_matchers(service)
                instead = f", or {' or '.join(others)}" if others else ""
                hint = f"add {first} to match.matchers{instead}"
                yield self.at(context, playbook, ("match",), message, hint, key=True)
