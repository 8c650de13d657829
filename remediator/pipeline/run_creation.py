"""The end of the match stage: join each episode to the run of its incident, or create the run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from remediator.core.run import Episode, Run
from remediator.errors import InputError
from remediator.pipeline.context import PipelineContext
from remediator.pipeline.incident import incident_for
from remediator.pipeline.match import Index
from remediator.pipeline.recurrence import on_new_run, on_refired
from remediator.playbooks import parameters
from remediator.playbooks.inventory import Inventory
from remediator.playbooks.model import Playbook
from remediator.storage import Tx
from remediator.storage.repositories import autonomy, runs

UNRESOLVED = "?"
"""Target of a run whose target could not be resolved; planning escalates it."""


@dataclass(frozen=True, slots=True)
class NewRun:
    """A run that this replica has created and claimed in the same transaction."""

    run: Run
    alerts: Sequence[Episode]
    """The episodes that it is for."""


def join_or_create(
    tx: Tx, context: PipelineContext, index: Index, opened: Sequence[Episode], free: int
) -> list[NewRun]:
    """Join each episode to the run of its incident, or create the run: one per playbook and target (promise 2).

    Args:
        tx: the transaction.
        context: the dependencies.
        index: the active playbooks.
        opened: the episodes that began or fire again.
        free: how many new runs this replica claims.

    Returns:
        the new runs that this replica has claimed.
    """
    claimed: list[NewRun] = []
    wanted: dict[tuple[str, str], tuple[Playbook, list[Episode]]] = {}
    for item in opened:
        for playbook in index.match(item.labels):
            key = (playbook.name, _target(playbook, item, context.playbooks.inventory))
            wanted.setdefault(key, (playbook, []))[1].append(item)
    existing = runs.get_open_incidents(tx.connection, sorted(wanted))
    for (name, target), (playbook, alerts) in wanted.items():
        known = existing.get((name, target))
        if known is None:
            run = _create(tx, context, playbook, target, claim=len(claimed) < free)
            runs.add_episodes(tx, run.id, alerts, created=True)
            if run.lease_owner is not None:
                claimed.append(NewRun(run, sorted(alerts, key=lambda item: item.id)))
        else:
            runs.add_episodes(tx, known.id, alerts)
            runs.notify(tx, [known.id])
            on_refired(tx, context, known)
    return claimed


def _create(tx: Tx, context: PipelineContext, playbook: Playbook, target: str, *, claim: bool) -> Run:
    mode = autonomy.effective_mode(tx.connection, playbook.name, playbook.mode_in(context.playbooks.environment))
    run_id = context.ids.new("run", tx.now)
    window = context.timeouts.incident_window
    incident_id = incident_for(tx, context.playbooks.inventory, window, target)
    lease = (context.replica, context.timeouts.lease) if claim else None
    name, version = playbook.name, playbook.content_hash
    run = runs.create(tx, run_id, name, version, target, mode, context.actor, incident_id, lease)
    on_new_run(tx, context, run)
    return run


def _target(playbook: Playbook, item: Episode, inventory: Inventory) -> str:
    try:
        values = parameters.resolve(playbook, dict(item.labels), inventory)
        return parameters.target(playbook, values, inventory)
    except InputError:
        return UNRESOLVED  # planning fails in the same way, and escalates with the reason
