"""The straight line for one alert, as it would be walked now: match, plan, guard, and what then. Changes nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import Connection

from remediator.clients.alertmanager.client import Alertmanager
from remediator.config import Config
from remediator.core.alert import fingerprint, identity
from remediator.core.plan import Plan
from remediator.core.run import ENGINE_VERSION, Episode, EpisodeStatus, Run, Status
from remediator.core.run_detail import PlannedDetail
from remediator.errors import ClientError, InputError, RemediatorError, StoreUnavailable
from remediator.extensions.guards.base import GuardAnswer
from remediator.pipeline.context import PipelineContext
from remediator.pipeline.guard_evaluation import GuardDecision, build_input, evaluate
from remediator.pipeline.match import Index
from remediator.pipeline.planning import Planner
from remediator.pipeline.run_context import RunContext
from remediator.playbooks import parameters
from remediator.playbooks.model import Playbook
from remediator.service import read_only_connection, read_only_context
from remediator.storage import Store, Tx, Wakeups
from remediator.storage.repositories import autonomy, episodes

T = TypeVar("T")


class ReadOnlyStore(Store):
    """The service's store, opened only to read, beside the service or without it."""

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
        raise StoreUnavailable("explaining changes nothing")

    async def accept(self, source: str, body: bytes) -> None:
        raise StoreUnavailable("explaining changes nothing")

    async def close(self) -> None:
        """Nothing is kept open."""


@dataclass(slots=True)
class Line:
    """The straight line of one playbook for the alert."""

    playbook: str
    missing: Sequence[str] = ()
    """Conditions of the match that do not hold; empty if it matches."""
    target: str = ""
    mode: str = ""
    plan: Plan | None = None
    error: str = ""
    """Why it cannot be planned."""
    judgement: GuardDecision | None = None
    would: str = ""


def read_alert(text: str) -> list[dict[str, str]]:
    """The labels in a JSON text: a webhook notification, one alert with ``labels``, or labels alone.

    Raises:
        InputError: it is none of these.
    """
    try:
        data = json.loads(text)
    except ValueError as error:
        raise InputError(f"the alert is no JSON: {error}") from None
    alerts = data.get("alerts") if isinstance(data, Mapping) else None
    items = alerts if isinstance(alerts, list) else [data]
    found = [item.get("labels", item) if isinstance(item, Mapping) else None for item in items]
    for labels in found:
        if (
            not isinstance(labels, Mapping)
            or not labels
            or not all(isinstance(value, str) for value in labels.values())
        ):
            raise InputError('write an alert as {"labels": {"alertname": "RedisDown"}}, or a whole notification')
    return [dict(labels) for labels in found if labels is not None]


async def by_fingerprint(config: Config, wanted: str) -> dict[str, str]:
    """The labels of a firing alert by Alertmanager's fingerprint: what is on record here is asked first, then every
    Alertmanager of the settings.

    Raises:
        InputError: nobody knows such an alert; the message tells who could not be asked.
    """
    silent = []
    try:
        open_ones = await ReadOnlyStore(config).read(episodes.list_open)
    except StoreUnavailable as error:
        open_ones, silent = [], [str(error)]
    for episode in open_ones:
        if fingerprint(episode.labels) == wanted:
            return dict(episode.labels)
    for endpoint in config.alertmanagers:
        async with aclosing(Alertmanager(endpoint)) as alertmanager:
            try:
                alerts = await alertmanager.alerts()
            except ClientError as error:
                silent.append(str(error))
                continue
        for alert in alerts:
            if alert.fingerprint == wanted:
                return dict(alert.labels)
    unheard = f" ({'; '.join(silent)})" if silent else ""
    raise InputError(f"no alert with the fingerprint {wanted} fires{unheard}; give its labels in a file instead")


async def explain(config: Config, labels: Mapping[str, str]) -> list[Line]:
    """What each playbook would do for an alert with these labels, the matching ones first."""
    async with read_only_context(config, ReadOnlyStore(config)) as context:
        found = Index(context.playbooks.active, config.watchdog.alertname).explain(labels)
        lines = []
        for each in sorted(found, key=lambda item: not item.matches):
            missing = [str(unmet) for unmet in each.unmet] + ([each.note] if each.note else [])
            line = Line(each.playbook.name, missing)
            if each.matches:
                await _walk(context, config, each.playbook, labels, line)
            lines.append(line)
        return lines


async def _walk(
    context: PipelineContext, config: Config, playbook: Playbook, labels: Mapping[str, str], line: Line
) -> None:
    written = playbook.mode_in(config.environment)
    try:
        line.mode = await context.store.read(
            lambda connection: autonomy.effective_mode(connection, playbook.name, written)
        )
    except StoreUnavailable:
        line.mode = written  # no service has run here yet; the guards say the rest
    try:
        values = parameters.resolve(playbook, labels, context.playbooks.inventory)
        line.target = parameters.target(playbook, values, context.playbooks.inventory)
        service = context.playbooks.inventory.service(line.target)
        line.plan = await Planner(context, playbook, service, values).plan(line.mode)
    except (RemediatorError, TimeoutError) as error:
        line.error = str(error) or "the platform gave no answer in time"
        line.would = "escalate to people: it cannot be planned"
        return
    now = context.clock.now()
    run = _run(playbook, line, line.plan, now)
    asked = build_input(RunContext(context, run, playbook, service), [_episode(labels, config, now)], None)
    line.judgement = await evaluate(context, asked, all_guards=True)
    line.would = _would(playbook, line, line.judgement)


def _would(playbook: Playbook, line: Line, judgement: GuardDecision) -> str:
    final = judgement.final
    if final.answer is GuardAnswer.BLOCK:
        return f"do nothing: {judgement.guard} {final.sentence}"
    if line.mode == "observe":
        return "only observe, as its mode says"
    if final.answer is GuardAnswer.UNKNOWN:
        return f"ask a person: {judgement.guard} {final.sentence}"
    if line.mode == "shadow":
        return "only say what it would have done, as its mode says"
    if line.mode == "approve" or playbook.approval.required:
        return "ask a person, as the playbook says"
    return "act"


def _run(playbook: Playbook, line: Line, plan: Plan, now: datetime) -> Run:
    return Run(
        id="explain",
        status=Status.PLANNED,
        reason=None,
        detail=PlannedDetail(),
        blocked_by=None,
        blocked_by_run=None,
        playbook=playbook.name,
        playbook_hash=playbook.content_hash,
        target=line.target,
        mode=line.mode,
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


def _episode(labels: Mapping[str, str], config: Config, now: datetime) -> Episode:
    return Episode(
        id="explain",
        identity=identity(labels, config.identity_ignore_labels),
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
    )


def as_json(line: Line) -> dict[str, Any]:
    """For ``--format json``."""
    verdicts = () if line.judgement is None else line.judgement.verdicts
    return {
        "playbook": line.playbook,
        "matches": not line.missing,
        "missing": list(line.missing),
        "target": line.target,
        "mode": line.mode,
        "plan": None if line.plan is None else line.plan.to_data(),
        "error": line.error,
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
        "would": line.would,
    }
