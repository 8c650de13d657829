"""The metrics of this service, named by the conventions of Prometheus.

The values of each label come from a closed set: words of this code, or names in the settings, the playbooks and the
inventory. A sender of alerts or requests must not be able to create series.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, disable_created_metrics
from prometheus_client import generate_latest as _generate
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from remediator import __version__
from remediator.runtime.build import build_id
from remediator.runtime.health import Health

# A creation time would be a second series for each counter, which nothing reads.
disable_created_metrics()  # type: ignore[no-untyped-call]


class _HealthCollector(Collector):
    """Reads the health of this process for each scrape."""

    def __init__(self, health: Health) -> None:
        self._health = health

    def collect(self) -> Iterable[Metric]:
        """Yield one series for each part, also while it works: a series that appears late hides its first increase."""
        problems = self._health.problems()
        yield GaugeMetricFamily(
            "remediator_intake_ready",
            "1 if received notifications are processed; 0 if not, and then the webhook answers 503.",
            value=not self._health.intake_problem(),
        )
        degraded = GaugeMetricFamily(
            "remediator_degraded",
            "1 if this part does not work now, for example a loop, a channel or the log; otherwise 0. Runs continue.",
            labels=("component",),
        )
        for part in sorted(self._health.parts() | problems.keys()):
            degraded.add_metric([part], part in problems)
        yield degraded
        losses = CounterMetricFamily(
            "remediator_observer_losses_total",
            "Items that an output lost: log lines, events, messages of a channel, records of a witness.",
            labels=("observer",),
        )
        for name, loss in self._health.losses.items():
            losses.add_metric([name], loss.count)
        yield losses


class Metrics:
    """The metrics of one process, in a separate registry."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.health = Health()
        """The present problems of this process; read for each scrape."""
        registry = self.registry
        ProcessCollector(registry=registry)
        registry.register(_HealthCollector(self.health))
        self.build = Gauge(
            "remediator_build_info",
            "Always 1. The labels have the version of remediator, the commit of its build, and the version of Python.",
            ("version", "revision", "python_version"),
            registry=registry,
        )
        self.build.labels(__version__, build_id(), platform.python_version()).set(1)
        self.notifications = Counter(
            "remediator_notifications_total",
            "Webhook requests by source, result and HTTP status code; investigate every result other than accepted.",
            ("source", "result", "code"),
            registry=registry,
        )
        self.authentications = Counter(
            "remediator_authentications_total",
            "Authentications of people by method and result: succeeded, failed, throttled, or denied.",
            ("method", "result"),
            registry=registry,
        )
        self.refused_connections = Counter(
            "remediator_refused_connections_total",
            "Connections that were refused or closed because of a limit, by reason.",
            ("reason",),
            registry=registry,
        )
        self.transitions = Counter(
            "remediator_run_transitions_total",
            "Transitions of runs by playbook, new status, and reason; for a blocked run, the reason is the name of the "
            "guard.",
            ("playbook", "status", "reason"),
            registry=registry,
        )
        self.actions = Counter(
            "remediator_actions_total",
            "Actions started, by playbook and target; the target is a name of the inventory.",
            ("playbook", "target"),
            registry=registry,
        )
        self.open_runs = Gauge(
            "remediator_open_runs", "Open runs in the store, the same on each replica.", registry=registry
        )
        self.waiting = Gauge(
            "remediator_waiting_notifications",
            "Notifications in the store that are not processed yet, the same on each replica.",
            registry=registry,
        )
        self.watchdog = Gauge(
            "remediator_watchdog_last_seen_timestamp_seconds",
            "Unix time when the Watchdog alert was last received; 0 if never.",
            registry=registry,
        )
        self.heartbeat = Gauge(
            "remediator_heartbeat_accepted_timestamp_seconds",
            "Unix time when the external monitor last accepted a heartbeat of this replica; 0 if never.",
            registry=registry,
        )
        self.audit_entries = Gauge(
            "remediator_audit_entries",
            "Sequence number of the last entry of the audit log, the same on each replica.",
            registry=registry,
        )
        self.pruned = Counter(
            "remediator_pruned_rows_total",
            "Rows deleted because they were older than timing.run_retention, by kind.",
            ("kind",),
            registry=registry,
        )
        self.reloads = Counter(
            "remediator_playbook_reloads_total",
            "Reloads of the playbook files by result: loaded, or refused because of an error.",
            ("result",),
            registry=registry,
        )
        for result in ("loaded", "refused"):
            # create the series with 0 at the start, so that Prometheus sees the first increase
            self.reloads.labels(result)
        self.reload_ok = Gauge(
            "remediator_playbooks_last_reload_successful",
            "1 if the playbook files are in use; 0 if they have an error and the last valid ones are used.",
            registry=registry,
        )
        self.reload_ok.set(1)
        self.first_action = Histogram(
            "remediator_time_to_first_action_seconds",
            "Seconds from the creation of a run to its first action; includes the wait for an approval.",
            buckets=(0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 5, 30, 300, 900, 3600),
            registry=registry,
        )

    def count_pruned(self, numbers: Mapping[str, int]) -> None:
        """Count the deleted rows of each kind."""
        for kind, number in numbers.items():
            self.pruned.labels(kind).inc(number)

    def render(self) -> bytes:
        """Return the metrics in the text format of Prometheus."""
        return _generate(self.registry)
