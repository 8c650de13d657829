"""Read the data that lint compares playbooks with from a running Prometheus."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import aclosing

from remediator.authoring.lint import AlertRule, LivePrometheus
from remediator.clients.endpoints import Endpoint
from remediator.clients.prometheus.client import Prometheus
from remediator.clients.prometheus.promql import selectors
from remediator.core.matchers import CLASSIC_NAME
from remediator.playbooks.model import Playbook
from remediator.playbooks.references import REFERENCE


async def read_live(endpoint: Endpoint, playbooks: Iterable[Playbook]) -> LivePrometheus:
    """Return the alert rules and metrics of a Prometheus, and the labels of the metrics that are used.

    Raises:
        ClientError: Prometheus does not answer, or refuses.
    """
    async with aclosing(Prometheus(endpoint)) as client:
        rules = [
            AlertRule(rule.name, rule.query, dict(rule.labels), endpoint.url)
            for group in await client.alert_rules()
            for rule in group.rules
        ]
        names = frozenset(await client.metric_names())
        expressions = [*(rule.expression for rule in rules), *(query for one in playbooks for _, query in one.promql)]
        used = {metric for expression in expressions for metric in metrics_of(expression)}
        labels = {metric: frozenset(await client.label_names(metric)) for metric in sorted(used & names)}
        return LivePrometheus(endpoint.url, rules, labels, names)


def metrics_of(expression: str) -> Iterator[str]:
    """Yield the name of each metric that an expression selects. A selector without a name selects no named metric."""
    for selector in selectors(REFERENCE.sub("x", expression)):
        if (found := CLASSIC_NAME.match(selector)) is not None:
            yield found[0]
