"""The metrics of this service. Names follow the conventions of Prometheus; each has a help text."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client import generate_latest as _generate

from remediator.runtime.health import Health


class Metrics:
    """The metrics of one process, with a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        registry = self.registry
        self.notifications = Counter(
            "remediator_notifications_total",
            "Webhook requests by result; investigate every result other than accepted.",
            ("result", "status"),
            registry=registry,
        )
        self.accepted = self.notifications.labels("accepted", "200")
        self.authentications = Counter(
            "remediator_authentications_total",
            "Authentications of people by method and result: succeeded, failed, or throttled after failures.",
            ("how", "result"),
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
            "Runs that entered a status.",
            ("playbook", "status", "reason"),
            registry=registry,
        )
        self.actions = Counter(
            "remediator_actions_total", "Actions started.", ("playbook", "target"), registry=registry
        )
        self.open_runs = Gauge("remediator_open_runs", "Open runs.", registry=registry)
        self.waiting = Gauge(
            "remediator_waiting_notifications", "Notifications that are not processed yet.", registry=registry
        )
        self.watchdog = Gauge(
            "remediator_watchdog_last_seen_timestamp_seconds",
            "Unix time when the Watchdog alert was last received.",
            registry=registry,
        )
        self.heartbeat = Gauge(
            "remediator_heartbeat_accepted_timestamp_seconds",
            "Unix time when the external monitor last accepted a heartbeat.",
            registry=registry,
        )
        self.audit_entries = Gauge(
            "remediator_audit_entries", "Number of the last entry of the audit log.", registry=registry
        )
        self.pruned = Counter(
            "remediator_pruned_total",
            "Rows deleted because they were older than timing.run_retention, by kind.",
            ("what",),
            registry=registry,
        )
        self.reloads = Counter(
            "remediator_playbook_reloads_total",
            "Reloads of the playbook files by result: loaded, or refused because of an error.",
            ("result",),
            registry=registry,
        )
        self.reload_ok = Gauge(
            "remediator_playbooks_last_reload_successful",
            "1 if the playbook files are in use; 0 if they have an error and the last valid ones are used.",
            registry=registry,
        )
        self.reload_ok.set(1)
        self.log_lines_lost = Gauge(
            "remediator_log_lines_lost",
            "Lines of the log that could not be written since the start, for example because the disk is full.",
            registry=registry,
        )
        self.able_to_take_in = Gauge(
            "remediator_able_to_take_in",
            "1 if received notifications are processed; 0 if not, and then the webhook answers 503.",
            registry=registry,
        )
        self.degraded = Gauge(
            "remediator_degraded",
            "1 for each part that does not work now, for example a loop, a channel or the log. Runs continue.",
            ("what",),
            registry=registry,
        )
        self.observer_losses = Gauge(
            "remediator_observer_losses",
            "What an observer (log, events, a channel, a witness) could not write since the start.",
            ("observer",),
            registry=registry,
        )
        self.health = Health()
        """What is wrong with this process now; read for each scrape."""
        self.first_action = Histogram(
            "remediator_time_to_first_action_seconds",
            "Time from the creation of a run to its first action.",
            buckets=(0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 5, 30, 300),
            registry=registry,
        )

    def count_pruned(self, numbers: Mapping[str, int]) -> None:
        """Count the deleted rows of each kind."""
        for what, number in numbers.items():
            self.pruned.labels(what).inc(number)

    def render(self) -> bytes:
        """Return the metrics in the text format of Prometheus."""
        problems = self.health.problems()
        self.degraded.clear()
        for what in problems:
            self.degraded.labels(what).set(1)
        self.able_to_take_in.set(not self.health.intake_problem())
        for name, loss in self.health.losses.items():
            self.observer_losses.labels(name).set(loss.count)
        return _generate(self.registry)
