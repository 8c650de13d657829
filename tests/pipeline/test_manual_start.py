"""Runs that a person starts have the same guards, approvals and audit as runs that an alert starts."""

from __future__ import annotations

from typing import Any

import pytest

from remediator.core.approval import PermissionDenied, Person, Role
from remediator.core.notification_policy import Approvals
from remediator.core.run import EpisodeKind, EpisodeStatus, Run
from remediator.errors import InputError
from remediator.extensions.guards.base import GuardAnswer
from remediator.extensions.registry import Registry
from remediator.pipeline import decisions, manual_start, stop_commands
from remediator.pipeline.context import PipelineContext
from remediator.pipeline.manual_start import StartRequest
from remediator.playbooks.model import Playbook
from remediator.reporting.incidents import load_incident
from remediator.reporting.run_timeline import load_timeline
from remediator.storage.repositories import approvals, episodes, evidence, runs, stops
from remediator.storage.repositories.comments import CommentKind
from tests.support.fleet import Health, advance_until, breaks, context, remedy
from tests.support.guard_history import Harness, alert

OSCAR = Person("oscar", "token", frozenset({Role.OPERATOR}))
ANN = Person("ann", "token", frozenset({Role.APPROVER}))


def engine(harness: Harness, playbook: Playbook, health: Health | None = None, *, every_guard: bool = False) -> Any:
    """Return an engine for one playbook on the store of the fixture."""
    made = context(harness.store, harness.clock, [playbook], health or Health(), "r1")
    if every_guard:
        made.guards = Registry().make_guards(harness.world)
    return made


async def start(made: PipelineContext, request: StartRequest, person: Person = OSCAR) -> Run:
    """Start a run in a transaction."""
    return await made.store.write(
        lambda tx: manual_start.start(tx, person, made.playbooks, request, made.timeouts.incident_window, made.ids)
    )


REQUEST = StartRequest("fix", "app", reason="it does not answer")


@pytest.mark.promise(9)
async def test_a_manual_run_heals_and_is_recorded(harness: Harness) -> None:
    """In mode auto the run acts at once. The timeline has the person, the reason, and the guards that were not
    needed."""
    made = engine(harness, remedy("fix", {}))
    run = await start(made, REQUEST)
    ended = await advance_until(made, ["succeeded"], harness.clock)
    assert ended.id == run.id
    timeline = await harness.store.read(lambda connection: load_timeline(connection, run.id))
    assert timeline is not None
    texts = [event.text for event in timeline.events]
    assert texts[0] == "playbook fix started for app by oscar"
    assert "start by oscar: it does not answer" in texts
    [episode] = timeline.alerts
    assert (episode.kind, episode.status) == (EpisodeKind.MANUAL, EpisodeStatus.CLOSED)
    after = await harness.store.read(lambda connection: runs.get(connection, run.id))
    assert after is not None and not after.incident_open


@pytest.mark.promise(5)
async def test_guards_about_alerts_say_that_they_are_not_needed(harness: Harness) -> None:
    """still_firing, watchdog and about_target allow a manual run and give the reason; a stop blocks it like any other
    run."""
    made = engine(harness, remedy("fix", {}, about="target"), every_guard=True)
    run = await start(made, REQUEST)
    await harness.write(lambda tx: stop_commands.create_stop(tx, OSCAR, "we look at it"))
    await advance_until(made, ["blocked"], harness.clock)
    found = await harness.store.read(lambda connection: evidence.list_verdicts(connection, run.id))
    blocked = [item.guard for item in found if item.answer != GuardAnswer.ALLOW.value]
    assert blocked == ["kill_switch"]
    await harness.write(lambda tx: stop_commands.release_stop(tx, OSCAR, next(iter(_stops(tx)))))
    await advance_until(made, ["succeeded", "escalated", "awaiting_approval"], harness.clock)
    found = await harness.store.read(lambda connection: evidence.list_verdicts(connection, run.id))
    told = {item.guard: item.inputs.get("text", "") for item in found if "started_by" in item.inputs}
    assert set(told) == {"still_firing", "watchdog", "about_target"}
    assert all(text.startswith("skipped, because oscar started this run: ") for text in told.values())


def _stops(tx: Any) -> list[str]:
    return [item.id for item in stops.list_active(tx.connection, tx.now)]


@pytest.mark.promise(6)
@pytest.mark.parametrize("mode", ["observe", "shadow", "approve"])
async def test_a_manual_run_asks_another_person(harness: Harness, mode: str) -> None:
    """In every other mode than auto the run needs an approval, which the person who started it cannot give."""
    made = engine(harness, remedy("fix", {}, mode=mode))
    run = await start(made, REQUEST)
    await advance_until(made, ["awaiting_approval"], harness.clock)
    asked = await harness.store.read(lambda connection: approvals.get_pending(connection, run.id))
    assert asked is not None

    def approve(person: Person) -> Any:
        request = decisions.DecisionRequest(asked.id, asked.plan_hash, "approve", person)
        return lambda tx: decisions.decide(tx, request, Approvals())

    with pytest.raises(PermissionDenied, match="another person"):
        await harness.write(approve(OSCAR))
    assert (await harness.write(approve(ANN))).status == "approved"
    await advance_until(made, ["succeeded"], harness.clock)


@pytest.mark.parametrize(
    ("request_", "told"),
    [
        (StartRequest("fixx", "app"), "no active playbook 'fixx'; did you mean 'fix'?"),
        (StartRequest("fix", "ap"), "no service 'ap'; did you mean 'app'?"),
        (StartRequest("fix"), "parameter service is missing: give --service, or --param service=VALUE"),
        (StartRequest("fix", "app", {"servic": "app"}), "no parameter 'servic'; did you mean 'service'?"),
        (StartRequest("fix", "app", {"service": "redis"}), "acts on 'redis' here, not on 'app'"),
    ],
)
async def test_a_wrong_start_is_refused(harness: Harness, request_: StartRequest, told: str) -> None:
    """An unknown name, a missing parameter or another target is refused in one line, and nothing is stored."""
    made = engine(harness, remedy("fix", {}))
    with pytest.raises(InputError) as error:
        await start(made, request_)
    assert told in str(error.value)
    assert await harness.store.read(lambda connection: runs.list_page(connection, 5)) == []


async def test_only_an_operator_starts(harness: Harness) -> None:
    """An approver cannot start a run."""
    made = engine(harness, remedy("fix", {}))
    with pytest.raises(PermissionDenied, match="operator"):
        await start(made, REQUEST, ANN)


@pytest.mark.promise(2)
async def test_one_run_for_each_playbook_and_target(harness: Harness) -> None:
    """While a run is open, a second start is refused; an alert that fires joins the manual run."""
    playbook = remedy("fix", {}, mode="approve")
    made = engine(harness, playbook)
    run = await start(made, REQUEST)
    with pytest.raises(InputError, match=f"run {run.id} of this playbook on app is matched"):
        await start(made, REQUEST)
    assert await breaks(made, playbook, "app", 7) is None


@pytest.mark.promise(2)
async def test_a_manual_run_takes_over_from_a_run_that_only_observes(harness: Harness) -> None:
    """The alerts of the observing run join the manual run, which keeps its own parameters."""
    playbook = remedy("fix", {}, mode="approve")
    made = engine(harness, playbook)

    def observe(tx: Any) -> None:
        old = runs.create(tx, "run-old", "fix", playbook.content_hash, "app", "observe", "test")
        item = alert(3, at=tx.now, service="app")
        episodes.insert_all(tx, [item])
        runs.add_episodes(tx, old.id, [item])

    await harness.write(observe)
    run = await start(made, REQUEST)
    joined = await harness.store.read(lambda connection: episodes.list_for_run(connection, run.id))
    assert {item.kind for item in joined} == {EpisodeKind.MANUAL, EpisodeKind.ALERT}
    old = await harness.store.read(lambda connection: runs.get(connection, "run-old"))
    assert old is not None and not old.incident_open


@pytest.mark.promise(13)
async def test_a_failed_manual_run_stays_open_until_it_is_acknowledged(harness: Harness) -> None:
    """The episode ends with the run, but the incident stays open until a person acknowledges it."""
    made = engine(harness, remedy("fix", {}), Health(heals=lambda name: False))
    run = await start(made, REQUEST)
    await advance_until(made, ["escalated", "failed"], harness.clock)
    before = await harness.store.read(lambda connection: load_incident(connection, run.incident_id))
    assert before is not None and not before.over
    await harness.write(lambda tx: decisions.comment(tx, ANN, run.id, "I look", CommentKind.ACKNOWLEDGEMENT))
    after = await harness.store.read(lambda connection: load_incident(connection, run.incident_id))
    assert after is not None and after.over
    assert "ann takes care of it" in after.runs[0].line()
