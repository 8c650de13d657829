"""Compare the result of a test with the expected result: one diagnostic for each difference."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from remediator.authoring.testing.execute import CaseResult
from remediator.authoring.testing.model import Case, Message
from remediator.core.clock import format_duration
from remediator.core.run import Run
from remediator.pipeline.match import Index
from remediator.playbooks.diagnostics import Diagnostic
from remediator.playbooks.model import Playbook
from remediator.playbooks.parsing.nodes import Node, find

_STRENGTH = ("allow", "unknown", "block")
Difference = tuple[tuple[str | int, ...], str]
"""Path below ``expect``, and the message."""


def compare(case: Case, at: int, result: CaseResult, playbooks: Sequence[Playbook], root: Node) -> list[Diagnostic]:
    """Return every difference, in the order of the file.

    Args:
        case: the test.
        at: position of the test in its file.
        result: the result of the test.
        playbooks: all playbooks of the folder, for ``matches``.
        root: the nodes of the file.
    """
    summary = "there was no run"
    if result.run is not None:
        because = result.run.detail.text or result.run.reason or ""
        summary = f"the run went {' → '.join(result.statuses)}" + (f" ({because})" if because else "")
    found = []
    for path, sentence in _differences(case, result, playbooks):
        node, _ = find(root, ("tests", at, "expect", *path))
        found.append(node.diagnostic("expectation", f"{case.name}: {sentence}", summary))
    return found


def _differences(case: Case, result: CaseResult, playbooks: Sequence[Playbook]) -> Iterator[Difference]:
    if result.defect:
        yield (), f"internal error in the pipeline: {result.defect}"
    expect, run = case.expect, result.run
    if expect.matches is not None:
        index = Index(playbooks, "Watchdog")
        matching = sorted({found.name for alert in case.alerts for found in index.match(alert.labels)})
        yield from _if_different(("matches",), "playbooks that match", sorted(expect.matches), matching)
    if expect.runs is not None:
        yield from _if_different(("runs",), "number of runs", expect.runs, len(result.runs))
    if expect.outcome is not None:
        yield from _if_different(("outcome",), "outcome", expect.outcome, run.status.value if run else "none")
    if run is None:
        # without a run, no expectation about a run may pass without a comparison
        for name in _OF_A_RUN:
            if name in case.expect.model_fields_set and getattr(case.expect, name):
                yield (name,), f"expected {name}, but there was no run"
    else:
        yield from _of_run(case, result)
    for at, wanted in enumerate(expect.messages):
        was_sent = any(
            wanted.kind in (None, sent.kind) and wanted.to in (None, sent.channel) and wanted.contains in sent.text
            for sent in result.messages
        )
        if not was_sent:
            sent = "; ".join(f"{item.kind} to {item.channel}" for item in result.messages) or "none"
            yield ("messages", at), f"expected a message {_description(wanted)}, sent: {sent}"


_OF_A_RUN = ("reason", "mode", "plan", "calls", "steps", "skipped", "undone", "evidence", "causes", "guards", "within")


def _of_run(case: Case, result: CaseResult) -> Iterator[Difference]:
    expect, run = case.expect, result.run
    assert run is not None
    if expect.reason is not None:
        yield from _if_different(("reason",), "reason", expect.reason, run.reason)
    if expect.mode is not None:
        yield from _if_different(("mode",), "mode", expect.mode, run.mode)
    if expect.plan is not None:
        yield from _if_different(
            ("plan",), "plan", list(expect.plan), [step.id for step in run.plan.steps] if run.plan else []
        )
    yield from _calls(case, run)
    if expect.undone is not None:
        yield from _if_different(("undone",), "undone steps", list(expect.undone), result.undone)
    if expect.steps is not None:
        done = {item.step: item.outcome for item in result.attempts}
        yield from _if_different(("steps",), "steps", _pairs(expect.steps), _pairs(done))
    if expect.skipped is not None:
        yield from _if_different(
            ("skipped",), "skipped steps", list(expect.skipped), list(dict.fromkeys(result.skipped))
        )
    yield from _causes(case, result)
    seen = {item.name: item.status for item in result.evidence if item.phase == "diagnose"}
    for name, wanted in expect.evidence.items():
        yield from _if_different(("evidence", name), f"evidence {name}", wanted, seen.get(name, "not collected"))
    answers = _strongest_answers(result)
    for name, answer in expect.guards.items():
        yield from _if_different(("guards", name), f"guard {name}", answer, answers.get(name, "not evaluated"))
    if expect.within is not None and (run.finished_at is None or result.seconds > expect.within.total_seconds()):
        took = "it has not ended" if run.finished_at is None else f"it took {result.seconds:.1f} s"
        yield ("within",), f"expected the end within {format_duration(expect.within)}, but {took}"


def _causes(case: Case, result: CaseResult) -> Iterator[Difference]:
    if (expected := case.expect.causes) is None:
        return
    named = [item for item in result.evidence if item.phase == "conclude"]
    fits = len(named) == len(expected) and all(
        wanted == item.name or wanted in item.summary for wanted, item in zip(expected, named, strict=True)
    )
    if not fits:
        found = [f"{item.name}: {item.summary}" for item in named]
        yield from _if_different(("causes",), "likely causes", list(expected), found)


def _calls(case: Case, run: Run) -> Iterator[Difference]:
    planned = {step.id: step.call.text for step in run.plan.steps} if run.plan else {}
    for name, wanted in case.expect.calls.items():
        yield from _if_different(
            ("calls", name), f"call of {name}", repr(wanted), repr(planned.get(name, "not planned"))
        )


def _if_different(path: tuple[str, ...], what: str, wanted: Any, found: Any) -> Iterator[Difference]:
    if wanted != found:
        yield path, f"expected {what} {_shown(wanted)}, got {_shown(found)}"


def _shown(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(str, value)) + "]"
    return str(value)


def _pairs(steps: Mapping[str, str | None]) -> str:
    return ", ".join(f"{step}: {outcome}" for step, outcome in steps.items()) or "none"


def _strongest_answers(result: CaseResult) -> dict[str, str]:
    """Return the strongest answer of each guard."""
    strongest: dict[str, str] = {}
    for item in result.verdicts:
        before = strongest.get(item.guard, "allow")
        strongest[item.guard] = max(before, item.answer, key=_STRENGTH.index)
    return strongest


def _description(wanted: Message) -> str:
    parts = [f"of kind {wanted.kind}" if wanted.kind else "", f"to {wanted.to}" if wanted.to else ""]
    parts.append(f"that contains {wanted.contains!r}" if wanted.contains else "")
    return ", ".join(part for part in parts if part) or "of any kind"
