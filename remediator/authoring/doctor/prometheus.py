"""Prometheus: it answers, and has the alerts, labels and metrics that the playbooks use."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterator, Mapping
from contextlib import aclosing
from datetime import timedelta

from remediator.authoring.doctor.base import DoctorCheck, Examination, Result, failed, ok, skipped, warning
from remediator.clients.prometheus.client import AlertRule, Prometheus
from remediator.clients.prometheus.promql import selectors
from remediator.clients.prometheus.result_labels import result_labels
from remediator.errors import ClientError, InputError
from remediator.playbooks.model import Playbook

_MAX_OFFSET = timedelta(seconds=10)
_ADDED = ("alertname",)
"""Labels that Prometheus adds to every alert."""


class PrometheusCheck(DoctorCheck):
    """Compares the rules and series of Prometheus with the playbooks."""

    name = "prometheus"

    async def run(self, about: Examination) -> AsyncIterator[Result]:
        endpoint = about.config.prometheus
        if endpoint is None:
            yield skipped("prometheus", "the settings contain no Prometheus: no check can use PromQL")
            return
        async with aclosing(Prometheus(endpoint)) as client:
            try:
                yield ok(endpoint.url, f"version {await client.version()}")
                vector = await client.query("time()")
                offset = abs(vector.samples[0].value - about.now.timestamp()) if vector.samples else 0.0
                text = f"differs from Prometheus by {offset:.1f} s"
                if offset > _MAX_OFFSET.total_seconds():
                    yield failed("clock", text, "run an NTP client on both hosts")
                else:
                    yield ok("clock", text)
                rules = {rule.name: rule for group in await client.alert_rules() for rule in group.rules}
                for playbook in about.playbooks:
                    for result in examine_rules(playbook, rules, about.config.known_labels):
                        yield result
                    async for result in _metrics(client, playbook, rules):
                        yield result
            except ClientError as error:
                yield failed(endpoint.url, str(error), "check that Prometheus runs, and 'prometheus' in the settings")


def examine_rules(
    playbook: Playbook, rules: Mapping[str, AlertRule], known_labels: Collection[str] = ()
) -> Iterator[Result]:
    """Yield whether the alerts of a playbook exist, and can have the labels that it uses."""
    matchers = (matcher.name for matcher in playbook.match.parsed if not matcher.accepts(""))
    required = (item.label for item in playbook.parameters.values() if item.label and item.default is None)
    used = dict.fromkeys(label for label in (*matchers, *required) if label not in _ADDED and label not in known_labels)
    for name in playbook.match.alertname:
        rule = rules.get(name)
        if rule is None:
            yield warning(
                playbook.name, f"Prometheus has no alert rule {name}", "add the rule, or correct the playbook"
            )
            continue
        if rule.health == "err":
            yield failed(playbook.name, f"the rule {name} fails: {rule.last_error}", "correct its expression")
        missing = [label for label in used if not _may_have(rule, label)]
        if missing:
            text = f"alerts of the rule {name} never have the label {', '.join(missing)}"
            yield failed(playbook.name, text, "add the label to the rule, or to the 'by' of its aggregation")
        elif rule.health != "err":
            yield ok(playbook.name, f"the rule {name} exists and has the labels that the playbook uses")


def _may_have(rule: AlertRule, label: str) -> bool:
    try:
        return label in rule.labels or result_labels(rule.query).may_have(label)
    except InputError:
        return True  # a function of a newer Prometheus


async def _metrics(client: Prometheus, playbook: Playbook, rules: Mapping[str, AlertRule]) -> AsyncIterator[Result]:
    """Yield the selectors of the rules and checks that have no series now."""
    used = [rules[name].query for name in playbook.match.alertname if name in rules]
    used += [query for _, query in playbook.promql]
    for selector in dict.fromkeys(each for query in used for each in selectors(query) if "${" not in query):
        try:
            found = await client.query(f"count({selector})")
        except ClientError as error:
            yield failed(playbook.name, f"{selector}: {error}", "correct the expression")
            continue
        if not found.samples:
            text = f"no series match {selector} now"
            yield warning(playbook.name, text, "check the scrape configuration and the name of the metric")
