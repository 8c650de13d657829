"""Due steps: an approval allows exactly these, and the request shows their calls and risks."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from remediator.core.plan import Plan, PlannedCall, PlannedStep, goto_target
from remediator.pipeline.due_steps import Follows, due_steps, reached_after
from remediator.reporting.request_text import call_lines, later_lines, risk_lines
from remediator.storage.repositories.evidence import EvidenceRecord
from tests.support.guard_history import NOON, STEP

pytestmark = pytest.mark.promise(6, 13)


def planned(step_id: str, **more: Any) -> PlannedStep:
    """Return a step whose call and risk have its name."""
    call = PlannedCall(f"call {step_id}", risk=f"risk of {step_id}")
    return msgspec.structs.replace(STEP, id=step_id, title=step_id.title(), call=call, **more)


def plan(*steps: PlannedStep) -> Plan:
    """Return a plan of these steps in mode approve."""
    return Plan("p", "h", "redis", "approve", {}, steps, (), 1.0, 30.0, (), "")


def due(*steps: PlannedStep, seen: tuple[EvidenceRecord, ...] = (), start: str | None = None) -> tuple[str, ...]:
    """Return the due steps of a plan for redis on a supervisor."""
    return due_steps(plan(*steps), ("redis", "supervisor"), seen, start=start)


FULL = EvidenceRecord("diagnose", "disk", "fail", "97 % used", {}, NOON)


@pytest.mark.parametrize(
    ("when", "expected"),
    [
        (None, ("prune",)),
        ("evidence.disk.ok == false", ("prune",)),
        ("target.platform == 'supervisor'", ("prune",)),
        ("evidence.disk.ok", ()),
        ("evidence.other.ok", ()),
        ("steps.earlier.status == 'ok'", ()),
    ],
    ids=["none", "holds", "platform", "does not hold", "unknown", "later"],
)
def test_a_step_is_due_only_if_its_condition_holds(when: str | None, expected: tuple[str, ...]) -> None:
    """A step whose condition is unknown, or known only later, is not approved in advance."""
    assert due(planned("prune", when=when), seen=(FULL,)) == expected


def test_an_unknown_arrow_is_an_error() -> None:
    """Only ``goto`` with the ID of a step leads to a step. A misspelt arrow is an error, not the ID of a step."""
    assert goto_target("goto restart") == "restart"
    for arrow in ("nxt", "goto ", "gotorestart", "verify"):
        with pytest.raises(ValueError, match="unknown arrow"):
            goto_target(arrow)
    with pytest.raises(ValueError, match="unknown arrow 'nxt'"):
        reached_after(plan(planned("look", on_success="nxt")))


def test_a_step_for_another_cause_is_not_due() -> None:
    """Only steps for the established cause are shown."""
    cause = EvidenceRecord("conclude", "full", "ok", "The disk is full.", {"typed": True}, NOON)
    steps = (planned("prune", causes=("full",)), planned("restart", causes=("down",)))
    assert due(*steps, seen=(FULL, cause)) == ("prune",)


def test_a_later_destructive_step_is_asked_about_when_it_is_due() -> None:
    """The first approval covers the harmless fallback, not the destructive fallback or a step with its own approval."""
    steps = (
        planned("restart"),
        planned("workers"),
        planned("delete", destructive=True, approval=True),
        planned("rollback", approval=True),
    )
    assert due(*steps) == ("restart", "workers")
    assert due(*steps, start="delete") == ("delete",)


def test_risks_are_those_of_the_due_steps() -> None:
    """Only the risks of due steps are shown; another step is listed as a later one."""
    shown = plan(planned("restart"), planned("delete", destructive=True, approval=True, when="evidence.disk.ok"))
    assert list(risk_lines(shown, ("restart",))) == ["Restart: risk of restart", "Restart: cannot be undone"]
    [later] = later_lines(shown, ("restart",))
    assert later == "Delete: only if evidence.disk.ok; you are asked again before it is done"


def test_the_note_about_the_step_before_is_true() -> None:
    """A step has the note only if it follows the failure of the previous step."""
    fallback = plan(planned("restart"), planned("workers"))
    chain = plan(planned("pause", on_success="next"), planned("prune"))
    both = ("restart", "workers"), ("pause", "prune")
    assert list(call_lines(fallback, both[0])) == [
        "1. Restart: call restart",
        "2. Workers (only if the previous step does not help): call workers",
    ]
    assert list(call_lines(chain, both[1])) == ["1. Pause: call pause", "2. Prune: call prune"]


def test_steps_that_no_arrow_leads_to_are_not_due() -> None:
    """If a step verifies on success and escalates on failure, the next step is not due."""
    steps = (planned("restart", on_failure="escalate"), planned("workers"))
    assert due(*steps) == ("restart",)
    jump = plan(planned("a", on_success="goto c", on_failure="escalate"), planned("b"), planned("c"))
    assert reached_after(jump) == {"a": frozenset({Follows.START}), "c": frozenset({Follows.SUCCESS})}
