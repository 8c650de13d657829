"""Try one row: start a new stack, make the fault, follow the runs, and measure their harm."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import yaml
from sqlalchemy import create_engine, select

from demo.chat import chat
from demo.judge import harm
from demo.judge.client import Client
from demo.judge.row import HEALED, PERSON, Judgement, Row
from demo.judge.scene import Scene
from demo.probe import Probe
from demo.stack import processes
from demo.stack.settings import Settings, StackError
from remediator.core.run import Status
from remediator.extensions.actions.service_restart import ServiceRestart
from remediator.extensions.actions.service_rollback import ServiceRollback
from remediator.reporting.run_timeline import RunTimeline, load_timeline
from remediator.storage.schema import runs as run_table

_LOOK = 0.5
_STARTING = 60.0
_OF_THE_MACHINE = ("HighCpu", "HighMemory")
"""Alerts about the machine that runs the judgement. They are left out, because its load is not a fault of a row."""
_RESTARTS = frozenset({ServiceRestart.name, ServiceRollback.name})
_AT_REST = frozenset(
    {Status.SUCCEEDED, Status.FAILED, Status.ESCALATED, Status.CANCELLED, Status.AWAITING_APPROVAL, Status.BLOCKED}
)


def judge(settings: Settings, row: Row) -> Judgement:
    """Return the judgement of one row. The stack is started before and stopped after it."""
    begun = time.monotonic()
    found = Judgement(row=row, not_run=row.without)
    if row.without:
        return found
    try:
        with ExitStack() as cleanup:
            _judge(_set_up(settings, cleanup, row), row, found)
    except StackError as error:
        found.harm.append(f"the row did not run to its end: {error}")
    found.seconds = time.monotonic() - begun
    return found


def _set_up(settings: Settings, cleanup: ExitStack, row: Row) -> Scene:
    """Start the stack, with people who can be reached, keys in Redis, a release of yesterday, and traffic."""
    if processes.running(settings):
        raise StackError("the stack runs; stop it with 'make down'")
    processes.forget(settings)
    people = cleanup.enter_context(chat())
    cleanup.callback(processes.down, settings)
    processes.up(settings, without_alerts=_OF_THE_MACHINE)
    client = cleanup.enter_context(Client(settings.ports.nginx))
    scene = Scene(settings, cleanup.enter_context(ExitStack()), client, people.messages)
    scene.age_release()
    _reach_people(scene, people.url)
    probe = Probe(settings)
    for ready, what in (
        (probe.targets_up, "all targets of Prometheus to be up"),
        (probe.watchdog_heard, "the Watchdog alert to reach the remediator"),
        (probe.traffic_flows, "traffic through nginx to be counted"),
    ):
        processes.wait(ready, what, _STARTING)
    return scene


def _reach_people(scene: Scene, url: str) -> None:
    """Send the messages of all channels to the judgement, which counts them."""
    path = scene.settings.remediator_yaml
    channels = {name: {"kind": "webhook", "url": url} for name in ("infrastructure", "development")}
    content = yaml.safe_load(path.read_text()) | {
        "channels": channels,
        "approvals": {"channels": ["infrastructure"]},
    }
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    processes.restart(scene.settings, "remediator")


def _judge(scene: Scene, row: Row, found: Judgement) -> None:
    if (why := row.needs(scene)) is not None:
        found.not_run = why
        return
    harm.write_keys(scene)
    row.prepare(scene)
    keys = harm.keys(scene)
    known = {each.run.id for each in _timelines(scene.settings)}
    row.make(scene)
    earlier = harm.before(scene, keys or 0)
    runs, acted = _follow(scene, row, known)
    if row.proof is not None:
        _prove(scene, row, found)
    _fill(found, runs)
    found.unsaid = _unsaid(scene, row, runs)
    _judge_ends(row, runs, found)
    harm.measure(scene, row, found, earlier, acted)


def _follow(scene: Scene, row: Row, known: set[str]) -> tuple[Sequence[RunTimeline], float | None]:
    """Wait until the runs of the fault are at rest or the time is over. Return them and the first action's time."""
    begun, quiet, acted = time.monotonic(), None, None
    runs: list[RunTimeline] = []
    while time.monotonic() - begun < row.seconds:
        time.sleep(_LOOK)
        runs = [each for each in _timelines(scene.settings) if each.run.id not in known]
        now = time.monotonic()
        if acted is None and any(attempt.mutates for each in runs for attempt in each.attempts):
            acted = now
        about = [each for each in runs if _is_for(each, row.alert)]
        resting = bool(about) and all(each.run.status in _AT_REST for each in runs)
        quiet = None if not resting else quiet or now
        if quiet is not None and now - quiet >= row.quiet:
            break
    return runs, acted


def _is_for(found: RunTimeline, alert: str) -> bool:
    return alert in {episode.alertname for episode in found.alerts}


def _timelines(settings: Settings) -> list[RunTimeline]:
    """Return the runs of the stack, oldest first, from its database, which is only read."""
    engine = create_engine(f"sqlite:///file:{settings.database}?mode=ro&uri=true")
    try:
        with engine.connect() as connection:
            ids = connection.execute(select(run_table.c.id).order_by(run_table.c.created_at)).scalars().all()
            return [each for each in (load_timeline(connection, run) for run in ids) if each is not None]
    finally:
        engine.dispose()


def _prove(scene: Scene, row: Row, found: Judgement) -> None:
    assert row.proof is not None
    until = time.monotonic() + 15
    while not found.proof and time.monotonic() < until:
        found.proof = row.proof(scene) or ""
        time.sleep(_LOOK)


def _fill(found: Judgement, runs: Sequence[RunTimeline]) -> None:
    named: dict[str, None] = {}
    actions: list[str] = []
    for each in runs:
        for seen in each.evidence if each.run.status is not Status.CANCELLED else ():  # its causes reach no person
            if seen.phase == "conclude" and seen.facts.get("typed"):
                named[f"{each.run.playbook}: {seen.name}"] = None
        actions += [f"{item.action}: {item.outcome or 'no outcome'}" for item in each.attempts if item.mutates]
        found.restarts[each.run.target] += sum(item.action in _RESTARTS for item in each.attempts)
    found.named, found.actions = tuple(named), tuple(actions)
    found.statuses = tuple(f"{each.run.playbook}: {_end(each)}" for each in runs)


def _unsaid(scene: Scene, row: Row, runs: Sequence[RunTimeline]) -> tuple[str, ...]:
    """Return the patterns that match neither a message nor evidence of a run."""
    told = [json.dumps(item, ensure_ascii=False) for item in scene.messages]
    told += [seen.summary for each in runs for seen in each.evidence]
    return tuple(pattern for pattern in row.says if not any(re.search(pattern, text) for text in told))


def _end(found: RunTimeline) -> str:
    reason: Any = found.run.reason
    return "not_needed" if str(reason) == "not_needed" else found.run.status.value


def _judge_ends(row: Row, runs: Sequence[RunTimeline], found: Judgement) -> None:
    about = [each for each in runs if _is_for(each, row.alert)]
    if not about and row.ends:
        found.harm.append(f"no run for {row.alert}")
    for each in about:
        if row.ends and _end(each) not in row.ends:
            found.harm.append(f"the run of {each.run.playbook} is {_end(each)}, not {' or '.join(sorted(row.ends))}")
    if row.proof is not None and row.ends & HEALED and not row.ends & PERSON and not found.proof:
        found.harm.append("no independent proof that the fault is over")
