"""Group runs whose alerts belong together in one incident, and decide whether people are notified of its alerts.

Runs belong together if they have the same target, or one target depends on the other in the inventory, and they began
minutes apart. The inbox is processed by one replica at a time, so every replica comes to the same grouping.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import Connection

from remediator.audit import Kind
from remediator.core.run import Episode, EpisodeKind, EpisodeStatus, Run, Status
from remediator.pipeline.context import PipelineContext
from remediator.playbooks.inventory import Inventory
from remediator.storage import Tx
from remediator.storage.repositories import episodes, incidents, runs

_MIN_SETTLE = timedelta(seconds=30)
"""How long after a repair an alert that it caused may still fire: Alertmanager groups and resends in intervals."""

_WAITED = (Status.VERIFYING, Status.SUCCEEDED)
"""Statuses that a run without an action reaches only after a step that waited for the end of the fault."""


def incident_for(tx: Tx, inventory: Inventory, window: timedelta, target: str) -> str:
    """Return the incident that a new run for a target belongs to; empty if the run begins a new incident.

    Args:
        tx: the transaction.
        inventory: has the dependencies of services.
        window: a run that began and ended longer ago is not related.
        target: of the new run.
    """
    if target not in inventory:
        return ""
    related = {target, *inventory.dependencies(target), *inventory.dependents(target)}
    found = incidents.find_related(tx.connection, related, tx.now - window)
    if not found:
        return ""
    incidents.merge(tx, found[0], found[1:])
    return found[0]


def repair_settles_at(connection: Connection, run: Run, now: datetime) -> datetime | None:
    """Return the time until which a run notifies no person, because our own repair may have caused its alerts.

    Returns:
        None if no alert of the run began while another run of the incident acted. It is also None if that run did not
        succeed, or if the time is over.
    """
    if run.first_action_at is not None:
        return None
    found = episodes.list_for_run(connection, run.id)
    if any(item.kind is EpisodeKind.MANUAL for item in found):
        return None  # a person started it, not an alert that the repair may have caused
    alerts = [item for item in found if item.status is EpisodeStatus.FIRING]
    ends = [_settles_at(other, alerts, now) for other in incidents.list_runs(connection, run.incident_id)]
    latest = max((end for end in ends if end is not None), default=None)
    return latest if latest is not None and latest > now else None


def _settles_at(other: Run, alerts: list[Episode], now: datetime) -> datetime | None:
    """Return when the repair of another run has settled; None if it did not cause these alerts, or failed.

    A run that succeeded without an action waited until the fault was over. Its repair began with the run.
    """
    began = other.first_action_at or (other.created_at if other.status in _WAITED else None)
    if began is None or other.plan is None or other.status in (Status.ESCALATED, Status.FAILED):
        return None
    settle = max(_MIN_SETTLE, timedelta(seconds=other.plan.settle + other.plan.stable))
    end = (other.finished_at or now) + settle
    caused = [item for item in alerts if began <= item.started_at <= end]
    return end if alerts and len(caused) == len(alerts) else None


def note(tx: Tx, context: PipelineContext, run: Run, text: str) -> None:
    """Add a note to the incident of a run, with its audit entry. Nobody is notified of it."""
    incidents.add_note(tx, run, text)
    data = {"incident": run.incident_id, "text": text}
    tx.append_audit(runs.draft(Kind.INCIDENT_NOTED, run, context.actor, data))
