"""The post-incident document of one run: what fired, what was decided and why, what was done, what was seen.

One list of pieces, drawn twice: as Markdown to paste, and as a self-contained page.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from markupsafe import Markup

from remediator.core.run import Episode, Status
from remediator.reporting import charts
from remediator.reporting.alert_series import Line
from remediator.reporting.formatting import length
from remediator.reporting.period import html as page
from remediator.reporting.run_timeline import RunTimeline, moved

_ENDED: Mapping[Status, str] = {
    Status.SUCCEEDED: "proved well",
    Status.ESCALATED: "handed to people",
    Status.FAILED: "failed, and handed to people",
    Status.CANCELLED: "over before anything had to be done, or cancelled",
}
_MARKED = re.compile(r"([\\`*_\[\]<>|#])")


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of the document: a heading, and under it words, a table, or both."""

    title: str
    words: Sequence[str] = ()
    head: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    chart: Markup | None = None


@dataclass(frozen=True, slots=True)
class Measured:
    """What the alert's expression was before, during and after."""

    alertname: str
    lines: Sequence[Line]
    limit: float | None


def document(story: RunTimeline, measured: Measured | None = None) -> list[Piece]:
    """The whole document, in reading order."""
    pieces = [
        Piece(_title(story), _lead(story), ("", ""), _facts(story)),
        Piece("Alerts", (), ("Alert", "Labels", "From", "Until"), [_alert(item) for item in story.alerts]),
        Piece("Course", (), ("Time", "After", "What"), list(_course(story))),
        Piece("Decisions", (), ("Time", "Who", "Said", "Why"), list(_decisions(story))),
        Piece("Actions", (), ("Step", "Call", "Outcome", "Began", "Took"), list(_actions(story))),
        Piece("Evidence", (), ("Time", "When", "What", "Answer", "Seen"), list(_evidence(story))),
    ]
    if measured is not None and any(measured.lines):
        pieces.insert(2, _chart(story, measured))
    return [piece for piece in pieces if piece.rows or piece.words or piece.chart]


def markdown(pieces: Sequence[Piece]) -> str:
    """To paste into a ticket; what came from outside is escaped."""
    parts = []
    for place, piece in enumerate(pieces):
        parts.append(f"{'#' if place == 0 else '##'} {_plain(piece.title)}")
        parts += [_plain(words) for words in piece.words]
        if piece.rows:
            lines = [_row(piece.head), _row(["---"] * len(piece.head), raw=True), *(_row(row) for row in piece.rows)]
            parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def html(pieces: Sequence[Piece]) -> str:
    """One self-contained file, with the chart if there is one."""
    body: list[Markup] = []
    for place, piece in enumerate(pieces):
        body.append(page.heading(piece.title, 1 if place == 0 else 2))
        body += [page.text(words) for words in piece.words]
        body += [piece.chart] if piece.chart else []
        if piece.rows:
            body.append(page.table(piece.head, piece.rows))
    return page.page(pieces[0].title, body)


def _title(story: RunTimeline) -> str:
    names = ", ".join(sorted({item.alertname for item in story.alerts})) or story.run.playbook
    return f"{names} on {story.run.target}, {_began(story):%Y-%m-%d %H:%M}Z"


def _began(story: RunTimeline) -> datetime:
    return min((item.started_at for item in story.alerts), default=story.run.created_at).astimezone(UTC)


def _lead(story: RunTimeline) -> list[str]:
    run = story.run
    end = _ENDED.get(run.status, f"still {run.status.value.replace('_', ' ')}")
    people = sorted({event.text.partition(" says ")[0] for event in story.events if event.kind == "approval.decided"})
    asked = f" {', '.join(people)} decided." if people else " Nobody had to be asked." if story.whole else ""
    after = "" if run.finished_at is None else f" after {length((run.finished_at - _began(story)).total_seconds())}"
    causes = [item.summary for item in story.evidence if item.phase == "conclude"]
    said = [f"Playbook {run.playbook} ({run.mode}) for {run.target}: {end}{after}.{asked}"]
    said += [] if story.whole else [moved(run.id)]
    return said + ([f"Likely cause: {' '.join(causes)}"] if causes else [])


def _facts(story: RunTimeline) -> Sequence[Sequence[str]]:
    run = story.run
    rows = [
        ("Run", run.id),
        ("Playbook", f"{run.playbook}, version {run.playbook_hash[:12]}"),
        ("Plan", (run.plan_hash or "none")[:12]),
        ("First alert", _time(_began(story))),
        ("First action", _time(run.first_action_at)),
        ("End", _time(run.finished_at)),
        ("Reason", run.reason or "-"),
    ]
    return rows


def _alert(item: Episode) -> Sequence[str]:
    labels = ", ".join(f"{name}={value}" for name, value in sorted(item.labels.items()) if name != "alertname")
    return (item.alertname, labels, _time(item.started_at), _time(item.resolved_at))


def _course(story: RunTimeline) -> Iterator[Sequence[str]]:
    begin = _began(story)
    for event in story.events:
        yield (_clock(event.at), length((event.at - begin).total_seconds()), event.text)


def _decisions(story: RunTimeline) -> Iterator[Sequence[str]]:
    """What guards and people said, in order."""
    said: list[tuple[datetime, str, str, str]] = []
    for verdict in story.verdicts:
        if verdict.answer != "allow":
            why = str(verdict.inputs.get("text") or verdict.reason or "")
            said.append((verdict.at, f"guard {verdict.guard}", verdict.answer, why))
    for event in story.events:
        if event.kind.startswith("approval."):
            who, _, verb = event.text.partition(" says ")
            said.append((event.at, who if verb else "remediator", verb or event.text, ""))
    for at, *words in sorted(said, key=lambda item: item[0]):
        yield (_clock(at), *words)


def _actions(story: RunTimeline) -> Iterator[Sequence[str]]:
    for item in story.attempts:
        took = None if item.outcome_at is None else (item.outcome_at - item.intent_at).total_seconds()
        step = f"{item.step} (put back)" if item.is_undo else item.step
        said = f"{item.outcome or 'under way'}: {(item.result or {}).get('summary', '')}".rstrip(": ")
        yield (step, _text(item.call), said, _clock(item.intent_at), length(took))


def _text(call: Mapping[str, Any]) -> str:
    return str(call.get("text", ""))


def _evidence(story: RunTimeline) -> Iterator[Sequence[str]]:
    for item in story.evidence:
        if item.phase != "conclude":
            yield (_clock(item.at), item.phase, item.name, item.status, item.summary)


def _chart(story: RunTimeline, measured: Measured) -> Piece:
    marks = [(item.intent_at, "now", f"{item.step} begins") for item in story.attempts if not item.is_undo]
    if story.run.finished_at is not None:
        marks.append((story.run.finished_at, "good", story.run.status.value))
    limit = "" if measured.limit is None else f"; the alert's limit is {measured.limit:g}"
    words = f"What {measured.alertname} measures, before, during and after{limit}."
    return Piece("Before and after", (words,), chart=charts.curves(measured.lines, marks, words))


def _time(at: datetime | None) -> str:
    return "-" if at is None else f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z"


def _clock(at: datetime) -> str:
    return f"{at.astimezone(UTC):%H:%M:%S}Z"


def _row(cells: Sequence[str], *, raw: bool = False) -> str:
    return "| " + " | ".join(cell if raw else _plain(cell) for cell in cells) + " |"


def _plain(text: str) -> str:
    """On one line, and nothing in it that Markdown would read."""
    return _MARKED.sub(r"\\\1", " ".join(str(text).split()))
