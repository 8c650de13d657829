"""What the service counts about itself. Names follow Prometheus' conventions; each has its help text."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client import generate_latest as _generate


class Metrics:
    """All metrics of one process, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        registry = self.registry
        self.notifications = Counter(
            "remediator_notifications_total",
            "Webhook requests by result; anything but accepted deserves a look.",
            ("result", "status"),
            registry=registry,
        )
        self.accepted = self.notifications.labels("accepted", "200")
        self.transitions = Counter(
            "remediator_run_transitions_total",
            "Runs that entered a status.",
            ("playbook", "status", "reason"),
            registry=registry,
        )
        self.actions = Counter("remediator_actions_total", "Actions begun.", ("playbook", "target"), registry=registry)
        self.open_runs = Gauge("remediator_open_runs", "Runs that are not over.", registry=registry)
        self.waiting = Gauge("remediator_waiting_notifications", "Notifications not yet folded.", registry=registry)
        self.watchdog = Gauge(
            "remediator_watchdog_last_seen_seconds", "When the always-firing alert was last heard.", registry=registry
        )
        self.audit_entries = Gauge(
            "remediator_audit_entries", "Number of the audit log's last entry.", registry=registry
        )
        self.pruned = Counter(
            "remediator_pruned_total",
            "What left the database because it was over for longer than timing.run_retention.",
            ("what",),
            registry=registry,
        )
        self.reloads = Counter(
            "remediator_playbook_reloads_total",
            "Changes of the playbooks' files: loaded, or refused because they are broken.",
            ("result",),
            registry=registry,
        )
        self.reload_ok = Gauge(
            "remediator_playbooks_in_force_are_those_on_disk",
            "1; 0 while the files are broken and the last good playbooks stay in force.",
            registry=registry,
        )
        self.reload_ok.set(1)
        self.first_action = Histogram(
            "remediator_time_to_first_action_seconds",
            "From the creation of a run to its first action.",
            buckets=(0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 5, 30, 300),
            registry=registry,
        )

    def count_gone(self, gone: Mapping[str, int]) -> None:
        """So many of each kind left the database."""
        for what, number in gone.items():
            self.pruned.labels(what).inc(number)

    def render(self) -> bytes:
        """The exposition text."""
        return _generate(self.registry)
