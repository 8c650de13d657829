"""Rules about matchers: which alerts start a playbook."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

from remediator.authoring.lint import AlertRule, LintContext, LivePrometheus, Rule
from remediator.authoring.lint.live import metrics_of
from remediator.clients.prometheus.result_labels import result_labels
from remediator.core.matchers import Operator, parse_matcher
from remediator.errors import InputError
from remediator.pipeline.match import accepts_alertname, holds
from remediator.playbooks.diagnostics import Diagnostic, Severity, similar_name
from remediator.playbooks.model import Playbook

_UNKNOWN_ALERT = {"alertname": "AnythingAtAll_7f3a"}
"""The labels of an alert that no playbook names."""


class MatchesEverything(Rule):
    """A playbook matches an alert with an unknown name and no other labels."""

    id = "matches-everything"
    why = "The remedy for one fault then runs for every other fault too."
    fix = "name the alerts, for example alertname: RedisDown"

    def check(self, context: LintContext) -> Iterator[Diagnostic]:
        for playbook in context.playbooks:
            if holds(playbook, _UNKNOWN_ALERT):
                yield self.at(context, playbook, ("match",), "the matchers match every alert", key=True)


class MatchesWatchdog(Rule):
    """The matcher on alertname also matches the Watchdog alert, which always fires."""

    id = "matches-watchdog"
    why = "The Watchdog only proves that alerts arrive. It is never matched, so this playbook may never run."
    fix = "name the intended alerts, or exclude the Watchdog, for example alertname!=Watchdog"

    def check(self, context: LintContext) -> Iterator[Diagnostic]:
        for playbook in context.playbooks:
            if accepts_alertname(playbook, context.watchdog):
                message = f"the matchers also match {context.watchdog}, the alert that always fires"
                yield self.at(context, playbook, ("match",), message, key=True)


class NeedlessAnchor(Rule):
    """A regular expression begins with ^ or ends with $."""

    id = "needless-anchor"
    severity = Severity.INFO
    why = "Patterns always match the whole value. A reader may conclude that patterns without anchors do not."
    fix = "remove ^ and $"

    def check(self, context: LintContext) -> Iterator[Diagnostic]:
        for playbook in context.playbooks:
            patterns = [
                (("match", "matchers", at), matcher.value)
                for at, matcher in enumerate(map(parse_matcher, playbook.match.matchers))
                if matcher.operator in (Operator.MATCHES, Operator.NOT_MATCHES)
            ] + [(("parameters", name, "pattern"), item.pattern or "") for name, item in playbook.parameters.items()]
            for path, pattern in patterns:
                if pattern.startswith("^") or (pattern.endswith("$") and not pattern.endswith("\\$")):
                    yield self.at(context, playbook, path, f"{pattern!r} has a needless anchor")


class Overlap(Rule):
    """Two playbooks match the same alert."""

    id = "overlap"
    why = "Both start a run for the alert. The second run waits for the first, or reverts its changes."
    fix = "exclude the alerts of one playbook in the matchers of the other, or put both remedies into one playbook"

    def check(self, context: LintContext) -> Iterator[Diagnostic]:
        for first, second in combinations(context.playbooks, 2):
            example = shared_labels(first, second)
            if example is not None:
                file = context.loaded.documents[first.name].text.file
                alert = ", ".join(f"{label}={value!r}" for label, value in sorted(example.items()) if value)
                message = f"{first.name} ({file}) matches the same alert: {alert or 'an alert without labels'}"
                yield self.at(context, second, ("match",), message, key=True)


def shared_labels(first: Playbook, second: Playbook) -> dict[str, str] | None:
    """Return labels that both playbooks match; None without such labels.

    Matchers on different labels are independent, so each label is tried alone. It gets every value that a matcher
    names, the beginning of every pattern, the empty value, and a value that no matcher names.
    """
    matchers = (*first.match.parsed, *second.match.parsed)
    found: dict[str, str] = {}
    for label in sorted({matcher.name for matcher in matchers}):
        same = [matcher for matcher in matchers if matcher.name == label]
        tried = [value for matcher in same for value in sorted(matcher.literals or ())]
        for matcher in same:
            tried += [matcher.prefix, f"{matcher.prefix}-x", f"{matcher.prefix}0"]
        tried += ["", "something"]
        accepted = [value for value in tried if all(matcher.accepts(value) for matcher in same)]
        if not accepted:
            return None
        found[label] = accepted[0]
    return found


class UnknownAlert(Rule):
    """A playbook matches an alertname that no rule file defines."""

    id = "unknown-alert"
    why = "The playbook never runs, and the error stays unnoticed until an incident."
    fix = "define the alert, or correct its name"

    def check(self, context: LintContext) -> Iterator[Diagnostic]:
        if context.alerts is None or context.unreadable_rules:
            return  # the alert may be in a file that cannot be read
        known = {alert.name for alert in context.alerts}
        for playbook in context.playbooks:
            for at, name in enumerate(playbook.match.alertname):
                if name not in known:
                    message = f"no rule file defines the alert {name!r}"
                    yield self.at(context, playbook, ("match", "alertname", at), message, similar_name(name, known))
            for at, matcher in enumerate(map(parse_matcher, playbook.match.matchers)):
                if matcher.name == "alertname" and not any(matcher.accepts(name) for name in known):
                    message = f"no rule file defines an alert that {matcher} matches"
                    yield self.at(context, playbook, ("match", "matchers", at), message)


class UnknownLabel(Rule):
    """A matcher or parameter uses a label that the aggregation of every rule for these alerts drops."""

    id = "unknown-label"
    why = "A matcher on a missing label never matches. A parameter from a missing label escalates every run."
    fix = (
        "add the label to the rule or to the 'by' of its aggregation, or correct its name; "
        "list labels that alert relabelling adds in known_labels of the settings"
    )

    def check(self, context: LintContext) -> Iterator[Diagnostic]:
        for playbook in context.playbooks:
            rules = [rule for rule in context.alerts or () if accepts_alertname(playbook, rule.name)]
            if not rules:
                continue
            written = {"alertname"}.union(context.known_labels, *(rule.labels for rule in rules))
            alerts = ", ".join(sorted({rule.name for rule in rules})[:3])
            used = [
                (("match", "matchers", at), parse_matcher(text).name) for at, text in enumerate(playbook.match.matchers)
            ] + [(("parameters", name, "label"), item.label or "") for name, item in playbook.parameters.items()]
            for path, label in used:
                if label and label not in written and not any(_may_have(rule, label, context.live) for rule in rules):
                    message = f"no rule for {alerts} keeps or sets the label {label!r}"
                    similar = written.union(*(_known_labels(rule, context.live) for rule in rules))
                    yield self.at(context, playbook, path, message, similar_name(label, similar))


def _may_have(rule: AlertRule, label: str, live: LivePrometheus | None) -> bool:
    """Return whether the expression of a rule can have a label.

    A series can have any label, and aggregation drops labels. A running Prometheus reports the labels of its series.
    """
    try:
        result = result_labels(rule.expression)
    except InputError:  # a function of a newer Prometheus, or a template
        return True
    if label in result.values or label in (result.only or ()):
        return True
    series = [] if live is None else [live.labels.get(name, frozenset()) for name in metrics_of(rule.expression)]
    known = not series or not all(series) or label in frozenset[str]().union(*series)
    return known and result.may_have(label)


def _known_labels(rule: AlertRule, live: LivePrometheus | None) -> set[str]:
    """Return the labels that the result of a rule is known to have, also from the series of a running Prometheus."""
    result = result_labels(rule.expression)
    series = [] if live is None else [live.labels.get(name, frozenset()) for name in metrics_of(rule.expression)]
    return {label for label in frozenset[str]().union(*series) if result.may_have(label)}.union(result.only or ())


class UnreadableRules(Rule):
    """A file in the folder of the Prometheus rules cannot be read as rules."""

    id = "unreadable-rules"
    why = "Its alerts are not known to lint, so that a wrong alertname in a playbook stays unnoticed."
    fix = "give lint the rendered rules, for example the output of helm template, with --alerting"

    def check(self, context: LintContext) -> Iterator[Diagnostic]:
        if context.unreadable_rules:
            file, line, reason = context.unreadable_rules[0]
            others = len(context.unreadable_rules) - 1
            message = f"the rule file cannot be read: {reason}" + (f"; {others} more like it" if others else "")
            yield Diagnostic(file, line, 1, self.id, self.severity, message, self.fix)
