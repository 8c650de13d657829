"""A page for people, made from a playbook: what the automation does, so that the document cannot say anything else."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from html import escape
from typing import Any

from remediator.authoring.flowchart import flow, mermaid, svg
from remediator.core.clock import format_duration
from remediator.playbooks.catalogue import Catalogue
from remediator.playbooks.model import Diagnosis, Goto, Playbook, Step

MADE = "Made by `remediator playbook docs` from the playbook; change that, not this."

Table = tuple[tuple[str, ...], Sequence[tuple[str, ...]]]
Section = tuple[str, Sequence[str], Table | None]
"""Title, paragraphs, and a table of heads and rows. Code stands in backquotes."""


def sections(playbook: Playbook, catalogue: Catalogue) -> Iterator[Section]:
    """What the page says, in the order in which it happens."""
    yield "When", [_when(playbook), _mode(playbook)], _parameters(playbook)
    if playbook.diagnose:
        heads = ("evidence", "look", "with")
        rows = [(_code(item.id), _code(_call(item)), _with(item.with_)) for item in playbook.diagnose]
        yield "First it looks", ["Nothing is changed by this, and no failure of it stops anything."], (heads, rows)
    yield "What it does", _intro(playbook), _steps(playbook, catalogue)
    yield "What proves success", [_proof(playbook)], _checks(playbook)
    yield "When it does not help", [_people(playbook)], None
    yield "What holds it back", _guards(playbook), None


def _when(playbook: Playbook) -> str:
    names = " or ".join(_code(name) for name in playbook.match.alertname)
    matchers = " and ".join(_code(text) for text in playbook.match.matchers)
    return f"Alert {' with '.join(filter(None, (names, matchers)))}. It acts on {_code(playbook.target)}."


_MODES = {
    "observe": "it only records",
    "shadow": "it says what it would do",
    "approve": "it asks a person first",
    "auto": "it acts by itself, within the guards",
}


def _mode(playbook: Playbook) -> str:
    if isinstance(playbook.mode, str):
        return f"Mode `{playbook.mode}`: {_MODES[playbook.mode]}."
    said = [f"`{mode}` in {_code(place)} ({_MODES[mode]})" for place, mode in sorted(playbook.mode.items())]
    return f"Mode by environment: {'; '.join(said)}."


def _parameters(playbook: Playbook) -> Table | None:
    if not playbook.parameters:
        return None
    rows = [
        (_code(name), _code(f"label {item.label}") if item.label else _code(_json(item.value)), item.type)
        for name, item in playbook.parameters.items()
    ]
    return ("parameter", "from", "type"), rows


def _intro(playbook: Playbook) -> list[str]:
    if not playbook.steps:
        return ["Nothing: it looks, and tells people what it found."]
    text = (
        "Its steps are tried in this order, until what proves success holds. Before every change all guards are asked."
    )
    approval = playbook.approval
    who = f" Who may agree: {', '.join(approval.groups)}." if approval.groups else ""
    quorum = f" {approval.quorum} people must agree." if approval.quorum > 1 else ""
    asks = " It asks in every mode." if approval.required else ""
    return [f"{text}{asks}{who}{quorum} A question is void after {format_duration(approval.expires)}."]


def _steps(playbook: Playbook, catalogue: Catalogue) -> Table | None:
    if not playbook.steps:
        return None
    heads = ("", "step", "action", "only if", "then", "if it fails")
    return heads, [_step(at, step, catalogue) for at, step in enumerate(playbook.steps, 1)]


def _step(at: int, step: Step, catalogue: Catalogue) -> tuple[str, ...]:
    traits = catalogue.traits_of(step.action)
    notes = [] if traits.mutates else ["only reads"]
    notes += ["destructive"] if traits.destructive else []
    notes += ["a person agrees first"] if step.approval == "required" or traits.requires_approval else []
    notes += [f"{step.retry.attempts} tries"] if step.retry.attempts > 1 else []
    notes += [f"put back after {format_duration(step.undo.after)}"] if step.undo and step.undo.after else []
    name = f"{step.name} ({_code(step.id)})" if step.name else _code(step.id)
    action = " ".join(filter(None, (_code(step.action), _with(step.with_), f"({', '.join(notes)})" if notes else "")))
    success = step.on_success or ("verify" if traits.mutates else "next")
    return str(at), name, action, _code(step.when or ""), _arrow(success), _arrow(step.on_failure or "next")


_ARROWS = {"verify": "verify", "next": "the next step", "escalate": "people", "abort": "failed"}


def _arrow(arrow: str | Goto) -> str:
    return f"step {_code(arrow.goto)}" if isinstance(arrow, Goto) else _ARROWS[arrow]


def _proof(playbook: Playbook) -> str:
    verify = playbook.verify
    if not verify.checks:
        return "Nothing is looked at, so no run of this playbook ever counts as a success."
    settle, within = format_duration(verify.settle), format_duration(verify.within)
    return f"All of this at once, looked at after {settle}, within {within}. That the alert is gone proves nothing."


def _checks(playbook: Playbook) -> Table | None:
    rows = [(_code(call.check), _with(call.with_)) for call in playbook.verify.checks]
    return (("check", "with"), rows) if rows else None


def _people(playbook: Playbook) -> str:
    to = ", ".join(playbook.escalate.to) or "whoever owns the service"
    return f"Told with all evidence: {to}. {playbook.escalate.message}".strip()


def _guards(playbook: Playbook) -> list[str]:
    own = [f"{_code(name)}: {_code(_json(value))}" for name, value in sorted(playbook.guards.settings.items())]
    off = [f"{_code(item.guard)} is **off**: {item.reason}" for item in playbook.guards.off]
    said = [f"Set here: {'; '.join(own)}."] if own else []
    return ["Every guard is on, with the installation's settings, unless something else stands here.", *said, *off]


def _call(look: Diagnosis) -> str:
    return look.check or look.action or ""


def _with(parameters: dict[str, Any]) -> str:
    return ", ".join(_code(f"{name}: {_json(value)}") for name, value in parameters.items())


def _json(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


def markdown(playbook: Playbook, catalogue: Catalogue) -> str:
    """The page as Markdown, its flow as a Mermaid diagram."""
    lines = [f"# {playbook.name}", "", f"<!-- {MADE.replace('`', '')} -->", "", playbook.summary, ""]
    lines += ["```mermaid", mermaid(flow(playbook, catalogue)), "```", ""]
    for title, paragraphs, table in sections(playbook, catalogue):
        lines += [f"## {title}", ""]
        lines += [line for paragraph in paragraphs for line in (paragraph, "")]
        if table is not None:
            heads, rows = table
            lines += [_row(heads), _row(["---"] * len(heads)), *(_row(row) for row in rows), ""]
    return "\n".join(lines).rstrip() + "\n"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def html(playbook: Playbook, catalogue: Catalogue) -> str:
    """The page as HTML that needs nothing else, its flow as SVG."""
    parts = [f"<h1>{escape(playbook.name)}</h1><p>{escape(playbook.summary)}</p>"]
    parts.append(svg(flow(playbook, catalogue), f"The flow of {playbook.name}"))
    for title, paragraphs, table in sections(playbook, catalogue):
        parts.append(f"<h2>{escape(title)}</h2>" + "".join(f"<p>{_inline(text)}</p>" for text in paragraphs))
        if table is not None:
            heads, rows = table
            body = "".join(f"<tr>{_cells(row, 'td')}</tr>" for row in rows)
            parts.append(f"<table><thead><tr>{_cells(heads, 'th')}</tr></thead><tbody>{body}</tbody></table>")
    title = f"<title>{escape(playbook.name)}</title>"
    head = f'<!doctype html><html lang="en"><head><meta charset="utf-8">{title}<style>{_STYLE}</style></head>'
    return f"{head}<body>{''.join(parts)}<footer>{_inline(MADE)}</footer></body></html>\n"


def _cells(cells: Sequence[str], tag: str) -> str:
    return "".join(f"<{tag}>{_inline(cell)}</{tag}>" for cell in cells)


def _inline(text: str) -> str:
    parts = escape(text).split("`")
    made = "".join(f"<code>{part}</code>" if at % 2 else part for at, part in enumerate(parts))
    return made.replace("**off**", "<b>off</b>")


FORMATS: dict[str, tuple[str, Callable[[Playbook, Catalogue], str]]] = {
    "md": (".md", markdown),
    "html": (".html", html),
}
"""Ending of the file, and what writes it."""

_STYLE = """
:root{color-scheme:light dark;--ink:#1d2330;--paper:#fff;--line:#9aa3b2;--soft:#eef1f6}
@media(prefers-color-scheme:dark){:root{--ink:#e6e9f0;--paper:#14171d;--line:#707a8c;--soft:#232833}}
body{max-width:56rem;margin:2rem auto;padding:0 1rem;font:16px/1.5 system-ui,sans-serif}
body{color:var(--ink);background:var(--paper)}
table{border-collapse:collapse;width:100%}footer{margin-top:3rem;font-size:.85em}
td,th{border:1px solid var(--line);padding:.3rem .5rem;text-align:left;vertical-align:top}
code{background:var(--soft);padding:0 .2em;border-radius:3px;overflow-wrap:anywhere}
.flow{width:100%;height:auto}.flow text{fill:var(--ink);font-size:15px;text-anchor:middle}
.flow .small,.flow .label{font-size:12px}.flow .label{text-anchor:start}.flow .left{text-anchor:end}
.flow path{fill:none;stroke:var(--line);stroke-width:1.5}.flow .tip{fill:var(--line);stroke:none}
.flow rect{fill:var(--soft);stroke:var(--line)}.flow .good rect{stroke:#2a8a4a;stroke-width:2}
.flow .people rect,.flow .bad rect{stroke:#c0362c;stroke-width:2}.flow .alert rect{stroke:#b7791f;stroke-width:2}
"""
