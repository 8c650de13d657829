"""Explain the pipeline for an alert now: match, plan, guard evaluation and the next step. Changes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import Connection

from remediator.clients.alertmanager.client import Alertmanager
from remediator.config import Config, configure_clients
from remediator.core import untrusted_json
from remediator.core.alert import ALERTMANAGER, fingerprint, identity
from remediator.core.approval import Permission, Person
from remediator.core.cost import excess
from remediator.core.plan import Plan
from remediator.core.run import ENGINE_VERSION, Episode, EpisodeKind, EpisodeStatus, Run, Status
from remediator.core.run_detail import PlannedDetail
from remediator.errors import ClientError, InputError, NotFound, RemediatorError, StoreUnavailable
from remediator.extensions.actions.base import ALERT_SOURCES
from remediator.extensions.guards.base import GuardAnswer
from remediator.extensions.sources.base import Source
from remediator.pipeline.context import PipelineContext
from remediator.pipeline.guard_evaluation import GuardDecision, build_input, evaluate
from remediator.pipeline.manual_start import StartRequest, manual_episode, manual_mode, resolve_start
from remediator.pipeline.match import Index
from remediator.pipeline.planning import Planner
from remediator.pipeline.run_context import RunContext
from remediator.playbooks import parameters
from remediator.playbooks.model import Playbook
from remediator.playbooks.target_identity import Comparison, Relation, Side, compare, sides
from remediator.runtime.store_access import read_only_connection
from remediator.service import read_only_context
from remediator.storage import Store, Tx, Wakeups
from remediator.storage.repositories import autonomy, episodes

T = TypeVar("T")


class ReadOnlyStore(Store):
    """The store of the service, opened read-only, beside a running service or without one."""

    name = "read only"

    def __init__(self, config: Config) -> None:
        self._config = config
        self.wakeups = Wakeups()

    async def read(self, work: Callable[[Connection], T]) -> T:
        return await asyncio.to_thread(self._read, work)

    def _read(self, work: Callable[[Connection], T]) -> T:
        with read_only_connection(self._config) as connection:
            return work(connection)

    async def write(self, work: Callable[[Tx], T]) -> T:
        raise StoreUnavailable("the store is opened read-only")

    async def accept(self, source: str, body: bytes) -> None:
        raise StoreUnavailable("the store is opened read-only")

    async def close(self) -> None:
        """Do nothing: each read opens and closes its own connection."""


@dataclass(slots=True)
class Explanation:
    """The explanation of one playbook for the alert."""

    playbook: str
    missing: Sequence[str] = ()
    """Conditions that do not hold; empty if the playbook matches."""
    target: str = ""
    mode: str = ""
    about: Comparison | None = None
    """Whether the alert is about the target; None if the target is not known."""
    about_any: str | None = None
    """Why the playbook accepts alerts that do not name the target; None if it does not."""
    sides: Sequence[Side] = ()
    """The labels that were compared."""
    plan: Plan | None = None
    error: str = ""
    """Why the plan cannot be made."""
    decision: GuardDecision | None = None
    next_step: str = ""


def read_alert(text: str) -> list[dict[str, str]]:
    """Return the labels in a JSON text: a webhook notification, one alert with ``labels``, or labels alone.

    Raises:
        InputError: the text has another form.
    """
    try:
        data = untrusted_json.decode(text)
    except ValueError as error:
        raise InputError(f"the alert is not valid JSON: {error}") from None
    alerts = data.get("alerts") if isinstance(data, Mapping) else None
    items = alerts if isinstance(alerts, list) else [data]
    found = [item.get("labels", item) if isinstance(item, Mapping) else None for item in items]
    for labels in found:
        if (
            not isinstance(labels, Mapping)
            or not labels
            or not all(isinstance(value, str) for value in labels.values())
        ):
            raise InputError('expected an alert like {"labels": {"alertname": "RedisDown"}}, or a webhook notification')
    return [dict(labels) for labels in found if labels is not None]


def read_body(source: Source, body: bytes) -> list[dict[str, str]]:
    """Return the labels of the alerts in a body that a source sends, as this source maps it.

    Raises:
        PayloadError: the source refuses it, or cannot map it.
    """
    source.check(body)
    return [dict(alert.labels) for alert in source.read(body).alerts]


async def by_fingerprint(config: Config, wanted: str) -> tuple[str, dict[str, str]]:
    """Return the source and the labels of a firing alert by its fingerprint, from the store or from an Alertmanager.

    Raises:
        NotFound: the alert is not found; the message names the sources that did not answer.
    """
    configure_clients(config)
    failures = []
    try:
        open_ones = await ReadOnlyStore(config).read(episodes.list_open)
    except StoreUnavailable as error:
        open_ones, failures = [], [str(error)]
    for episode in open_ones:
        if fingerprint(episode.labels) == wanted:
            return episode.source, dict(episode.labels)
    for endpoint in config.alertmanagers:
        async with aclosing(Alertmanager(endpoint)) as alertmanager:
            try:
                alerts = await alertmanager.alerts()
            except ClientError as error:
                failures.append(str(error))
                continue
        for alert in alerts:
            if alert.fingerprint == wanted:
                return ALERTMANAGER, dict(alert.labels)
    unanswered = f" ({'; '.join(failures)})" if failures else ""
    raise NotFound(f"no firing alert has the fingerprint {wanted}{unanswered}; pass its labels in a file instead")


async def explain(config: Config, labels: Mapping[str, str], source: str = ALERTMANAGER) -> list[Explanation]:
    """Explain each playbook for an alert of a source with these labels, the matching playbooks first."""
    async with read_only_context(config, ReadOnlyStore(config)) as context:
        return await explain_alert(context, config, labels, source)


async def explain_alert(
    context: PipelineContext, config: Config, labels: Mapping[str, str], source: str = ALERTMANAGER
) -> list[Explanation]:
    """Explain each playbook for an alert of a source with these labels, with the clients of ``context``.

    Raises:
        NotFound: the settings do not have the source.
    """
    if source != ALERTMANAGER and source not in config.sources:
        raise NotFound(f"unknown source {source!r}; known: {', '.join((ALERTMANAGER, *config.sources))}")
    candidates = Index(context.playbooks.active, config.watchdog.alertname).explain(labels)
    explanations = []
    for each in sorted(candidates, key=lambda item: not item.matches):
        missing = [str(unmet) for unmet in each.unmet] + ([each.note] if each.note else [])
        explanation = Explanation(each.playbook.name, missing)
        if each.matches:
            now = context.clock.now()
            await _evaluate(context, each.playbook, _episode(labels, config, now, source), explanation)
        explanations.append(explanation)
    return explanations


async def explain_start(context: PipelineContext, person: Person, request: StartRequest) -> Explanation:
    """Explain a run that this person would start now. Changes nothing.

    Raises:
        PermissionDenied: the role is not sufficient.
        InputError: the request does not fit the playbook or the inventory.
    """
    person.require(Permission.START)
    found = resolve_start(context.playbooks, request)
    explanation = Explanation(found.playbook.name)
    now = context.clock.now()
    episode = manual_episode("explain", "explain", person.id, found.labels, request.reason, now)
    await _evaluate(context, found.playbook, episode, explanation)
    return explanation


_NOT_ABOUT = {
    Relation.OTHER: "the alert is about something else",
    Relation.UNKNOWN: "no label of the alert names a target",
}


async def _evaluate(context: PipelineContext, playbook: Playbook, episode: Episode, found: Explanation) -> None:
    labels, manual = episode.labels, episode.kind is EpisodeKind.MANUAL
    configured = playbook.mode_in(context.playbooks.environment)
    try:
        found.mode = await context.store.read(
            lambda connection: autonomy.effective_mode(connection, playbook.name, configured)
        )
    except StoreUnavailable:
        found.mode = configured  # the store does not exist yet: no service has run here
    if manual:
        found.mode = manual_mode(found.mode)
    try:
        values = parameters.resolve(playbook, labels, context.playbooks.inventory)
        found.target = parameters.target(playbook, values, context.playbooks.inventory)
        service = context.playbooks.inventory.service(found.target)
        if not manual:
            found.about, found.about_any = compare(labels, service), playbook.about_any
            found.sides = sides(labels, service)
            if found.about_any is None and found.about.relation in _NOT_ABOUT:  # the plan stage does the same
                found.error = f"none: {_NOT_ABOUT[found.about.relation]}"
                found.next_step = f"escalate: {found.about.text}"
                return
        ALERT_SOURCES.set(frozenset({episode.source}))
        found.plan = await Planner(context, playbook, service, values).plan(found.mode)
    except (RemediatorError, TimeoutError) as error:
        found.error = str(error) or "the platform did not answer in time"
        found.next_step = "escalate: the plan cannot be made"
        return
    now = context.clock.now()
    run = _run(playbook, found, found.plan, now)
    asked = build_input(RunContext(context, run, playbook, service), [episode], None)
    found.decision = (await evaluate(context, asked, all_guards=True)).decision
    found.next_step = _next_step(playbook, found, found.decision)


def _next_step(playbook: Playbook, found: Explanation, decision: GuardDecision) -> str:
    final = decision.final
    if final.answer is GuardAnswer.BLOCK:
        return f"do nothing: {decision.guard} {final.sentence}"
    if found.mode == "observe":
        return "record only (mode observe)"
    if final.answer is GuardAnswer.UNKNOWN:
        return f"request approval: {decision.guard} {final.sentence}"
    if found.mode == "shadow":
        return "report the planned actions (mode shadow)"
    if found.mode == "approve" or playbook.approval.required:
        return "request approval"
    return "act"


def _run(playbook: Playbook, found: Explanation, plan: Plan, now: datetime) -> Run:
    return Run(
        id="explain",
        incident_id="explain",
        status=Status.PLANNED,
        reason=None,
        detail=PlannedDetail(),
        blocked_by=None,
        blocked_by_run=None,
        playbook=playbook.name,
        playbook_hash=playbook.content_hash,
        target=found.target,
        mode=found.mode,
        plan=plan,
        plan_hash=plan.hash,
        cursor=None,
        resume_to=None,
        engine_version=ENGINE_VERSION,
        fence=0,
        wakeup_count=0,
        cancel_request=None,
        lease_owner=None,
        lease_until=None,
        wake_at=None,
        deadline_at=None,
        incident_open=False,
        holds_target=False,
        created_at=now,
        updated_at=now,
        first_action_at=None,
        finished_at=None,
    )


def _episode(labels: Mapping[str, str], config: Config, now: datetime, source: str) -> Episode:
    return Episode(
        id="explain",
        identity=identity(source, labels, config.identity_ignore_labels),
        status=EpisodeStatus.FIRING,
        alertname=labels.get("alertname", ""),
        labels=labels,
        annotations={},
        started_at=now,
        starts_at=now,
        last_seen_at=now,
        resolved_at=None,
        closes_at=None,
        flaps=0,
        source=source,
    )


def as_alert_json(labels: Mapping[str, str], found: Sequence[Explanation]) -> dict[str, Any]:
    """Return the explanations of one alert for the API and ``--format json``."""
    return {"labels": dict(labels), "playbooks": [as_json(item) for item in found]}


def as_json(found: Explanation) -> dict[str, Any]:
    """Return an explanation for the API and ``--format json``."""
    verdicts = () if found.decision is None else found.decision.verdicts
    return {
        "playbook": found.playbook,
        "matches": not found.missing,
        "missing": list(found.missing),
        "target": found.target,
        "mode": found.mode,
        "about": None
        if found.about is None
        else {
            "relation": found.about.relation.value,
            "text": found.about.text,
            "labels": [asdict(side) for side in found.sides],
            "any": found.about_any,
        },
        "plan": None if found.plan is None else found.plan.to_data(),
        "steps": [
            {
                "id": step.id,
                "call": {"summary": step.call.summary},
                "cost": step.cost.text,
                "losses": list(excess(step.cost, step.tolerance)),
            }
            for step in (() if found.plan is None else found.plan.steps)
        ],
        "error": found.error,
        "guards": [
            {
                "guard": name,
                "answer": verdict.answer.value,
                "reason": verdict.reason,
                "text": verdict.sentence,
                "inputs": dict(verdict.inputs),
                "until": None if verdict.until is None else verdict.until.isoformat(),
            }
            for name, verdict in verdicts
        ],
        "next_step": found.next_step,
    }
