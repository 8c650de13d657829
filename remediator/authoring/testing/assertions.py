"""Compare what came of a test with what was expected: one sentence for each difference, with its place in the file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from remediator.authoring.testing.execute import Played, Told
from remediator.authoring.testing.model import Case, Message
from remediator.core.clock import format_duration
from remediator.core.run import Run
from remediator.pipeline.match import Index
from remediator.playbooks.diagnostics import Diagnostic
from remediator.playbooks.model import Playbook
from remediator.playbooks.parsing.nodes import Node, find

_STRENGTH = ("allow", "unknown", "block")
Difference = tuple[tuple[str | int, ...], str]
"""Where in the test's ``expect``, and the sentence."""


def judge(case: Case, at: int, played: Played, playbooks: Sequence[Playbook], root: Node) -> list[Diagnostic]:
    """Every difference, in the order of the file.

    Args:
        at: the test's number in its file.
        playbooks: all of the folder, for ``matches``.
        root: the file's nodes.
    """
    found = []
    for path, sentence in _differences(case, played, playbooks):
        node, _ = find(root, ("tests", at, "expect", *path))
        found.append(node.diagnostic("expectation", f"{case.name}: {sentence}", _told(played)))
    return found


def _told(played: Played) -> str:
    """What did happen, in a line."""
    if played.run is None:
        return "there was no run"
    because = played.run.detail.text or played.run.reason or ""
    return f"the run went {' → '.join(played.trail)}" + (f" ({because})" if because else "")


def _differences(case: Case, played: Played, playbooks: Sequence[Playbook]) -> Iterator[Difference]:
    if played.defect:
        yield (), f"the engine failed: {played.defect}"
    expect, run = case.expect, played.run
    if expect.matches is not None:
        yield from _unlike(("matches",), "playbooks that match", sorted(expect.matches), _matching(case, playbooks))
    if expect.runs is not None:
        yield from _unlike(("runs",), "number of runs", expect.runs, len(played.runs))
    if expect.outcome is not None:
        yield from _unlike(("outcome",), "outcome", expect.outcome, run.status.value if run else "none")
    if run is None:
        yield from _without_run(case)
    else:
        yield from _of_run(case, played)
    for at, wanted in enumerate(expect.messages):
        if not any(_fits(wanted, told) for told in played.messages):
            sent = "; ".join(f"{told.kind} to {told.channel}" for told in played.messages) or "none"
            yield ("messages", at), f"expected a message {_described(wanted)}, sent: {sent}"


_OF_A_RUN = ("reason", "mode", "plan", "calls", "steps", "skipped", "undone", "evidence", "causes", "guards", "within")


def _without_run(case: Case) -> Iterator[Difference]:
    """Whatever is expected of a run is missed if there is none: an expectation never passes unlooked at."""
    for name in _OF_A_RUN:
        if name in case.expect.model_fields_set and getattr(case.expect, name):
            yield (name,), f"expected {name} of a run, but there was no run"


def _of_run(case: Case, played: Played) -> Iterator[Difference]:
    expect, run = case.expect, played.run
    assert run is not None
    if expect.reason is not None:
        yield from _unlike(("reason",), "reason", expect.reason, run.reason)
    if expect.mode is not None:
        yield from _unlike(("mode",), "mode", expect.mode, run.mode)
    if expect.plan is not None:
        yield from _unlike(
            ("plan",), "plan", list(expect.plan), [step.id for step in run.plan.steps] if run.plan else []
        )
    yield from _calls(case, run)
    yield from _undone(case, played)
    if expect.steps is not None:
        done = {item.step: item.outcome for item in played.attempts}
        yield from _unlike(("steps",), "steps", list(expect.steps.items()), list(done.items()), _pairs)
    if expect.skipped is not None:
        yield from _unlike(("skipped",), "skipped steps", list(expect.skipped), list(dict.fromkeys(played.skipped)))
    if expect.causes is not None:
        named = [item.summary for item in played.seen if item.phase == "conclude"]
        fits = len(named) == len(expect.causes) and all(map(str.__contains__, named, expect.causes))
        yield from [] if fits else _unlike(("causes",), "likely causes", list(expect.causes), named)
    seen = {item.name: item.status for item in played.seen if item.phase == "diagnose"}
    for name, wanted in expect.evidence.items():
        yield from _unlike(("evidence", name), f"evidence {name}", wanted, seen.get(name, "not looked at"))
    said = _verdicts(played)
    for name, answer in expect.guards.items():
        yield from _unlike(("guards", name), f"guard {name}", answer, said.get(name, "not asked"))
    if expect.within is not None and (run.finished_at is None or played.seconds > expect.within.total_seconds()):
        took = "it is not over" if run.finished_at is None else f"it took {played.seconds:.1f} s"
        yield ("within",), f"expected the end within {format_duration(expect.within)}, but {took}"


def _undone(case: Case, played: Played) -> Iterator[Difference]:
    if case.expect.undone is not None:
        yield from _unlike(("undone",), "steps put back", list(case.expect.undone), played.undone)


def _calls(case: Case, run: Run) -> Iterator[Difference]:
    planned = {step.id: step.call.text for step in run.plan.steps} if run.plan else {}
    for name, wanted in case.expect.calls.items():
        yield from _unlike(("calls", name), f"call of {name}", repr(wanted), repr(planned.get(name, "not planned")))


def _unlike(path: tuple[str, ...], what: str, wanted: Any, found: Any, shown: Any = None) -> Iterator[Difference]:
    if wanted != found:
        shown = shown or _shown
        yield path, f"expected {what} {shown(wanted)}, got {shown(found)}"


def _shown(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(str, value)) + "]"
    return str(value)


def _pairs(value: Sequence[tuple[str, str]]) -> str:
    return ", ".join(f"{step}: {outcome}" for step, outcome in value) or "none"


def _matching(case: Case, playbooks: Sequence[Playbook]) -> list[str]:
    index = Index(playbooks, "Watchdog")
    return sorted({found.name for alert in case.alerts for found in index.match(alert.labels)})


def _verdicts(played: Played) -> dict[str, str]:
    """The strongest answer of each guard."""
    strongest: dict[str, str] = {}
    for item in played.judged:
        before = strongest.get(item.guard, "allow")
        strongest[item.guard] = max(before, item.answer, key=_STRENGTH.index)
    return strongest


def _fits(wanted: Message, told: Told) -> bool:
    return (
        (wanted.kind is None or wanted.kind == told.kind)
        and (wanted.to is None or wanted.to == told.channel)
        and wanted.contains in told.text
    )


def _described(wanted: Message) -> str:
    parts = [f"of kind {wanted.kind}" if wanted.kind else "", f"to {wanted.to}" if wanted.to else ""]
    parts.append(f"with {wanted.contains!r}" if wanted.contains else "")
    return ", ".join(part for part in parts if part) or "of any kind"
