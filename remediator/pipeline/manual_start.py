"""Start a run by hand: the same guards, approval and audit as a run that an alert starts.

The run gets an episode of kind *manual*, which lasts until the run has ended. Its labels are the parameters that the
person gave, so that they are validated and substituted like the labels of an alert (promise 8).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from remediator.audit import Draft, Kind
from remediator.core.approval import Permission, Person
from remediator.core.ids import Ids
from remediator.core.run import TERMINAL, Episode, EpisodeKind, EpisodeStatus, Run
from remediator.errors import Conflict, NotFound
from remediator.pipeline.context import PASSIVE_MODES, PlaybookSet
from remediator.pipeline.incident import incident_for
from remediator.playbooks import parameters, references
from remediator.playbooks.diagnostics import did_you_mean
from remediator.playbooks.model import Playbook
from remediator.storage import Tx
from remediator.storage.repositories import approvals, autonomy, episodes, runs

ALERTNAME = "manual start"
"""The name of the alert of a manual start."""


@dataclass(frozen=True, slots=True)
class StartRequest:
    """The request of a person to start a run."""

    playbook: str
    service: str = ""
    """The target; empty if the playbook has a fixed target."""
    parameters: Mapping[str, str] = field(default_factory=dict)
    """Parameters of the playbook that have a label, by name, as text."""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ManualStart:
    """A request to start that fits the playbook and the inventory."""

    playbook: Playbook
    target: str
    labels: Mapping[str, str]
    """The given parameters, each under the label that its value comes from otherwise."""


def resolve_start(playbooks: PlaybookSet, request: StartRequest) -> ManualStart:
    """Return what to start.

    Raises:
        NotFound: the playbook or the service is unknown.
        Conflict: a parameter does not fit its declaration, or the playbook acts on another service.
    """
    playbook = playbooks.active_version(request.playbook)
    if playbook is None:
        hint = did_you_mean(request.playbook, [item.name for item in playbooks.active])
        raise NotFound(f"there is no active playbook {request.playbook[:64]!r}{f'; {hint}' if hint else ''}")
    if request.service and request.service not in playbooks.inventory:
        hint = did_you_mean(request.service, list(playbooks.inventory.services))
        raise NotFound(f"the inventory has no service {request.service[:64]!r}{f'; {hint}' if hint else ''}")
    labels = _labels(playbook, request)
    values = parameters.resolve(playbook, labels, playbooks.inventory)
    target = parameters.target(playbook, values, playbooks.inventory)
    if request.service and target != request.service:
        raise Conflict(f"playbook {playbook.name!r} acts on {target!r} here, not on {request.service!r}")
    return ManualStart(playbook, target, labels)


def _labels(playbook: Playbook, request: StartRequest) -> dict[str, str]:
    """Return the given parameters as labels; the service fills the parameter that names the target.

    Raises:
        Conflict: the playbook has no such parameter, or a parameter is missing.
    """
    given = dict(request.parameters)
    target = set(references.references(playbook.target))
    for name in target & playbook.parameters.keys():
        if request.service and playbook.parameters[name].label is not None:
            given.setdefault(name, request.service)
    labels: dict[str, str] = {}
    for name, value in given.items():
        declared = playbook.parameters.get(name)
        if declared is None:
            hint = did_you_mean(name, list(playbook.parameters))
            known = ", ".join(each for each, item in playbook.parameters.items() if item.label is not None) or "none"
            raise Conflict(
                f"playbook {playbook.name!r} has no parameter {name[:64]!r}; {hint or f'its parameters are: {known}'}"
            )
        if declared.label is None:
            raise Conflict(f"parameter {name}: the playbook sets it to {declared.value!r}; it cannot be given")
        if labels.setdefault(declared.label, value) != value:
            raise Conflict(f"parameter {name}: another parameter of label {declared.label!r} has a different value")
    for name, declared in playbook.parameters.items():
        if declared.label is not None and declared.default is None and not labels.get(declared.label):
            what = "--service, or " if name in target else ""
            raise Conflict(f"parameter {name} is missing: give {what}--param {name}=VALUE")
    return labels


def start(
    tx: Tx, person: Person, playbooks: PlaybookSet, request: StartRequest, incident_window: timedelta, ids: Ids
) -> Run:
    """Create a run that a person starts. The person may not approve it.

    In the modes ``observe`` and ``shadow``, a playbook never acts automatically, so the run asks for an approval.
    A run of the same playbook and target that has ended, or only observes, gives its firing alerts to the new run.

    Args:
        tx: the transaction.
        person: who starts it.
        playbooks: the active playbooks and the inventory.
        request: what to start.
        incident_window: runs of related targets that began at most this long ago are the same incident.
        ids: makes the IDs.

    Raises:
        PermissionDenied: the role is not sufficient.
        NotFound: the playbook or the service is unknown.
        Conflict: the request does not fit, or a run of this playbook and target is open already.
    """
    person.require(Permission.START)
    found = resolve_start(playbooks, request)
    name, reason = found.playbook.name, tx.redact(request.reason.strip())
    before = runs.get_open_incidents(tx.connection, [(name, found.target)]).get((name, found.target))
    joining = [] if before is None else _take_over(tx, before)
    incident_id = incident_for(tx, playbooks.inventory, incident_window, found.target)
    mode = manual_mode(autonomy.effective_mode(tx.connection, name, found.playbook.mode_in(playbooks.environment)))
    run_id, version = ids.new("run", tx.now), found.playbook.content_hash
    run = runs.create(tx, run_id, name, version, found.target, mode, person.id, incident_id)
    episode = manual_episode(ids.new("episode", tx.now), run.id, person.id, found.labels, reason, tx.now)
    episodes.insert_all(tx, [episode])
    runs.add_episodes(tx, run.id, [episode, *joining])
    approvals.set_requester(tx, run.id, person.id)
    data = {"alertname": ALERTNAME, "labels": episode.labels, "run": run.id}
    tx.append_audit(Draft(kind=Kind.EPISODE_OPENED, actor=person.id, episode=episode.id, data=data))
    told = {"command": "start", "how": person.how, "parameters": dict(request.parameters), "mode": mode}
    tx.append_audit(runs.draft(Kind.OPERATOR_COMMAND, run, person.id, told, reason or None))
    return run


def manual_mode(mode: str) -> str:
    """Return the mode of a run that a person starts: what never acts automatically asks for an approval."""
    return "approve" if mode in PASSIVE_MODES else mode


def manual_episode(
    episode_id: str, run_id: str, who: str, labels: Mapping[str, str], reason: str, now: datetime
) -> Episode:
    """Return the episode of a run that a person starts."""
    return Episode(
        id=episode_id,
        identity=f"manual-{run_id}",
        status=EpisodeStatus.FIRING,
        alertname=ALERTNAME,
        labels=dict(labels),
        annotations={"started_by": who, "reason": reason},
        started_at=now,
        starts_at=now,
        last_seen_at=now,
        resolved_at=None,
        closes_at=None,
        flaps=0,
        kind=EpisodeKind.MANUAL,
    )


def _take_over(tx: Tx, before: Run) -> Sequence[Episode]:
    """End the incident of the previous run; returns its alerts that still fire (promise 2).

    Raises:
        Conflict: that run still works, or may still have an effect on the target.
    """
    about = f"run {before.id} of this playbook on {before.target}"
    if before.status not in TERMINAL and before.mode not in PASSIVE_MODES:
        raise Conflict(f"{about} is {before.status.value.replace('_', ' ')}; decide on it, or cancel it first")
    if before.holds_target:
        raise Conflict(
            f"{about} ended, and the outcome of its last call is unknown; check the target, cancel that run to release "
            "the target, then start again"
        )
    runs.close_incident(tx, [before.id])
    alerts = episodes.list_for_run(tx.connection, before.id)
    return [item for item in alerts if item.status is EpisodeStatus.FIRING and item.kind is EpisodeKind.ALERT]


def parameter_labels(alerts: Sequence[Episode]) -> dict[str, str]:
    """Return the labels that fill the parameters of a run: of its first alert, overridden by the input of a person."""
    manual = next((item for item in alerts if item.kind is EpisodeKind.MANUAL), None)
    first = next((item for item in alerts if item.kind is EpisodeKind.ALERT), None)
    return {**({} if first is None else first.labels), **({} if manual is None else manual.labels)}


def end_manual_episode(tx: Tx, run: Run, actor: str) -> None:
    """Close the manual episode of a run that has ended, with its audit entry."""
    for episode_id in episodes.close_manual(tx, run.id):
        data = {"alertname": ALERTNAME, "run": run.id}
        tx.append_audit(Draft(kind=Kind.EPISODE_CLOSED, actor=actor, episode=episode_id, data=data))
