"""Rehearse a playbook: send an alert that does not exist through the production pipeline, in mode shadow.

The stages, checks, diagnoses and platforms are real, so the rehearsal finds a wrong address, a missing right
and a label that does not fit. It has a separate store: the service, its runs and its audit log do not change.
"""

from __future__ import annotations

import asyncio
import json
import math
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path

from remediator.authoring.explain import Explanation, explain
from remediator.authoring.simulation import log_events
from remediator.clients.prometheus.client import Prometheus
from remediator.config import Config, configure_clients, redactor_for
from remediator.core.alert import ALERTMANAGER
from remediator.core.clock import SystemClock, rfc3339
from remediator.core.matchers import example_match
from remediator.core.run import Run, Status
from remediator.errors import ClientError, InputError
from remediator.extensions.registry import Registry
from remediator.extensions.sources.base import DEFAULT
from remediator.pipeline.context import PipelineContext, PlaybookSet
from remediator.pipeline.match import Index, holds
from remediator.pipeline.receive import receive
from remediator.playbooks.diagnostics import did_you_mean
from remediator.playbooks.inventory import Inventory
from remediator.playbooks.loader import load
from remediator.playbooks.model import Parameter, Playbook
from remediator.playbooks.target_identity import example_value
from remediator.reporting.run_timeline import RunTimeline, load_timeline
from remediator.runtime.live_inventory import with_targets_of
from remediator.runtime.worker import Worker
from remediator.service import ingest_settings, read_only_context
from remediator.storage.repositories import playbooks, runs
from remediator.storage.sqlite import SqliteStore

EXPECTED_BLOCK = "still_firing"
"""The guard that asks Alertmanager whether the alert fires. The alert of a rehearsal never does."""
_SAMPLES = {"integer": "1", "number": "1", "boolean": "true", "duration": "5m", "string": "example"}


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """The result of a rehearsal."""

    labels: Mapping[str, str]
    timeline: RunTimeline
    explanation: Explanation
    """The plan and all guards, evaluated with the history of the service."""

    @property
    def problem(self) -> str:
        """Return why the playbook could not have done its work; empty if it could."""
        run = self.timeline.run
        if self.explanation.error:
            return self.explanation.error
        if run.status in (Status.ESCALATED, Status.FAILED) and run.reason is not None and run.reason != "diagnosed":
            return f"{run.status.value} ({run.reason}): {run.detail.summary}"
        return ""


async def rehearse(config: Config, name: str, given: Mapping[str, str], seconds: float) -> Rehearsal:
    """Send a synthetic alert for a playbook through the pipeline, in mode shadow.

    Args:
        config: the settings.
        name: the playbook.
        given: labels of the alert, in addition to those that the playbook requires.
        seconds: timeout for the result.

    Raises:
        InputError: there is no such playbook, or it does not match the labels.
        TimeoutError: the plan was not ready in time.
    """
    configure_clients(config)
    registry = Registry.for_settings(config)
    loaded = load(config.playbooks, config.inventory, registry.catalogue())
    known = {playbook.name: playbook for playbook in loaded.playbooks}
    if name not in known:
        raise InputError(f"no playbook {name!r}; {did_you_mean(name, known) or 'no playbook is active'}")
    labels = {**example_labels(known[name], loaded.inventory), **await _rule_labels(config, known[name]), **given}
    if not holds(known[name], labels):
        wrong = [str(matcher) for matcher in known[name].match.parsed if not matcher.matches(labels)]
        raise InputError(
            f"the playbook {name!r} does not match the alert of the rehearsal: {', '.join(wrong)}; "
            "give the labels, for example --label severity=critical"
        )
    with tempfile.TemporaryDirectory(prefix="remediator-rehearsal-") as folder, log_events.given_to():
        clock = SystemClock()
        store = SqliteStore(
            Path(folder, "rehearsal.db"), clock, redactor_for(config, loaded.inventory, *registry.models(config))
        )
        try:
            async with read_only_context(config, store) as context:
                context.playbooks = context.playbooks.with_inventory(with_targets_of(config, loaded.inventory))
                timeline = await _run(context, config, known[name], labels, seconds)
        finally:
            await store.close()
        explained = await explain(config, labels)
    return Rehearsal(labels, timeline, next(each for each in explained if each.playbook == name))


def example_labels(playbook: Playbook, inventory: Inventory) -> dict[str, str]:
    """Return the labels of an alert that the playbook matches, as far as they are known.

    Args:
        playbook: its matchers, target and parameters give the labels.
        inventory: gives the labels that name the target.
    """
    service = inventory.services.get(playbook.target)
    labels = {} if service is None else dict(service.alert_labels)
    for name, parameter in playbook.parameters.items():
        if parameter.label is not None and parameter.default is None:
            labels[parameter.label] = playbook.target if name == "service" and service else _example(parameter)
    for matcher in playbook.match.parsed:
        if matcher.literals is not None:
            labels[matcher.name] = min(matcher.literals)
        elif service is not None and (value := example_value(matcher, service)):
            labels[matcher.name] = value
    return {label: value for label, value in labels.items() if value}


def _example(parameter: Parameter) -> str:
    if parameter.enum:
        return str(parameter.enum[0])
    if parameter.pattern is not None:
        return example_match(parameter.pattern)
    if parameter.minimum is not None:
        return f"{math.ceil(parameter.minimum)}"
    return _SAMPLES.get(parameter.type, "")


async def _rule_labels(config: Config, playbook: Playbook) -> dict[str, str]:
    """Return the labels that the alert rule in Prometheus sets; empty without Prometheus."""
    if config.prometheus is None or not playbook.match.alertname:
        return {}
    async with aclosing(Prometheus(config.prometheus)) as client:
        try:
            groups = await client.alert_rules()
        except ClientError:
            return {}
    rules = (rule for group in groups for rule in group.rules if rule.name == playbook.match.alertname[0])
    return {name: value for rule in rules for name, value in rule.labels.items() if "{{" not in value}


async def _run(
    context: PipelineContext, config: Config, playbook: Playbook, labels: Mapping[str, str], seconds: float
) -> RunTimeline:
    """Run the pipeline until the run waits or ends.

    The playbook is in mode shadow, so no stage calls a mutating action. Its steps are planned, and
    its diagnoses and checks are real.
    """
    shadow = playbook.model_copy(update={"mode": "shadow"})
    rehearsed = replace(context, playbooks=PlaybookSet((shadow,), context.playbooks.inventory, config.environment))
    await rehearsed.store.write(lambda tx: playbooks.add_versions(tx, (shadow,)))
    settings = ingest_settings(config, {ALERTMANAGER: DEFAULT})
    worker = Worker(rehearsed, Index((shadow,), config.watchdog.alertname), settings, 1, 0.2)
    alert = {
        "status": "firing",
        "labels": dict(labels),
        "annotations": {"summary": "rehearsal"},
        "startsAt": rfc3339(SystemClock().now()),
        "endsAt": "0001-01-01T00:00:00Z",
    }
    body = {"version": "4", "receiver": "rehearsal", "status": "firing", "alerts": [alert]}
    loops = [asyncio.create_task(worker.run_ingest_loop()), asyncio.create_task(worker.run_advance_loop())]
    try:
        await receive(rehearsed.store, json.dumps(body).encode())
        async with asyncio.timeout(seconds):
            run = await _settled(rehearsed)
        timeline = await rehearsed.store.read(lambda connection: load_timeline(connection, run.id))
    finally:
        for task in loops:
            task.cancel()
        await asyncio.gather(*loops, return_exceptions=True)
    assert timeline is not None
    return timeline


async def _settled(context: PipelineContext) -> Run:
    """Return the run as soon as it waits or has ended."""
    while True:
        found: Sequence[Run] = await context.store.read(lambda connection: runs.list_page(connection, 1))
        if found and (found[0].finished_at is not None or found[0].status is Status.BLOCKED):
            return found[0]
        await asyncio.sleep(0.05)
