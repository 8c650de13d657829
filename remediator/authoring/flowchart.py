"""Draw the flow of a playbook as a Mermaid diagram or as SVG."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from typing import Literal

from remediator.core.text import shorten
from remediator.playbooks.catalogue import ActionTraits, Catalogue
from remediator.playbooks.model import Playbook
from remediator.playbooks.steps import Goto

Kind = Literal["alert", "diagnose", "gate", "step", "verify", "good", "escalated", "bad"]


@dataclass(frozen=True, slots=True)
class Node:
    """A box of the diagram."""

    id: str
    kind: Kind
    title: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Edge:
    """An arrow of the diagram."""

    start: str
    end: str
    label: str = ""


@dataclass(frozen=True, slots=True)
class Flow:
    """The flow from the alert to each end. The nodes are in the order in which a run reaches them."""

    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]


def flow(playbook: Playbook, catalogue: Catalogue) -> Flow:
    """Return the flow of a playbook."""
    nodes = [Node("alert", "alert", ", ".join(playbook.match.alertname) or "alert", "; ".join(playbook.match.matchers))]
    if playbook.diagnose:
        nodes.append(Node("diagnose", "diagnose", "Diagnose", ", ".join(look.id for look in playbook.diagnose)))
    modes = ", ".join(sorted(playbook.modes, key=("observe", "shadow", "approve", "auto").index))
    always = "; always needs approval" if playbook.approval.required else ""
    nodes.append(Node("gate", "gate", "Guards, approval", f"mode {modes}{always}"))
    edges = [Edge(first.id, second.id) for first, second in pairwise(nodes)]
    first = f"step_{playbook.steps[0].id}" if playbook.steps else "escalated"
    edges += [Edge("gate", first, "allowed"), Edge("gate", "escalated", "unknown, rejected, expired")]
    for at, step in enumerate(playbook.steps):
        traits = catalogue.traits_of(step.action, step.with_)
        detail = f"{step.action}, needs approval" if step.needs_approval(traits) else step.action
        nodes.append(Node(f"step_{step.id}", "step", step.name or step.id, detail))
        edges += _arrows(playbook, at, traits)
    if any(edge.end == "verify" for edge in edges):
        nodes += [
            Node("verify", "verify", "Verify", ", ".join(call.check for call in playbook.verify.checks)),
            Node("good", "good", "Succeeded"),
        ]
        edges.append(Edge("verify", "good", "all ok"))
    nodes.append(Node("escalated", "escalated", "Escalated", ", ".join(playbook.escalate.to)))
    if any(edge.end == "failed" for edge in edges):
        nodes.append(Node("failed", "bad", "Failed"))
    labels: dict[tuple[str, str], list[str]] = {}  # arrows between the same boxes are merged
    for edge in edges:
        labels.setdefault((edge.start, edge.end), []).append(edge.label)
    merged = (Edge(start, end, ", ".join(filter(None, names))) for (start, end), names in labels.items())
    return Flow(tuple(nodes), tuple(merged))


def _arrows(playbook: Playbook, at: int, traits: ActionTraits) -> Iterator[Edge]:
    step = playbook.steps[at]
    here = f"step_{step.id}"
    following = f"step_{playbook.steps[at + 1].id}" if at + 1 < len(playbook.steps) else "escalated"
    reasons = ["condition does not hold"] if step.when is not None else []
    reasons += ["other cause"] if step.for_ else []
    if reasons:
        yield Edge(here, following, ", ".join(reasons))
    success = step.success_arrow(traits)
    yield Edge(here, _end(success, following), "done")
    failure = "fails, or verify fails" if success == "verify" else "fails"
    yield Edge(here, _end(step.failure_arrow, following), failure)


def _end(arrow: str | Goto, following: str) -> str:
    if isinstance(arrow, Goto):
        return f"step_{arrow.goto}"
    return {"next": following, "verify": "verify", "escalate": "escalated", "abort": "failed"}[arrow]


_OPEN = {"alert": ('(["', '"])'), "gate": ('{{"', '"}}'), "verify": ('{{"', '"}}'), "step": ('["', '"]')}


def mermaid(made: Flow) -> str:
    """Return the flow as Mermaid text, which GitHub and GitLab draw."""
    lines = ["flowchart TD"]
    for node in made.nodes:
        left, right = _OPEN.get(node.kind, ('("', '")'))
        detail = f"<br/><small>{_plain(node.detail)}</small>" if node.detail else ""
        lines.append(f"  {node.id.replace('-', '_')}{left}{_plain(node.title)}{detail}{right}")
    for edge in made.edges:
        label = f'|"{_plain(edge.label)}"|' if edge.label else ""
        lines.append(f"  {edge.start.replace('-', '_')} -->{label} {edge.end.replace('-', '_')}")
    return "\n".join(lines)


def _plain(text: str) -> str:
    return escape(text, quote=True).replace("&#x27;", "#39;").replace("&", "#").replace("##", "#")


_WIDTH, _LEFT, _ROW, _BOX, _ENDS = 860, 230, 88, 52, 300


def svg(made: Flow, label: str) -> str:
    """Return the flow as one SVG element, for a page with the styles of the template ``runbook.html``."""
    rows = {node.id: at for at, node in enumerate(made.nodes)}
    height = _ROW * len(made.nodes) + 10
    parts = [_arrow(edge, rows, lane) for lane, edge in enumerate(made.edges)]
    parts += [_box(node, rows[node.id]) for node in made.nodes]
    marker = (
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0 8 4 0 8z" class="tip"/></marker></defs>'
    )
    head = f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{escape(label)}" class="flow">'
    return head + marker + "".join(parts) + "</svg>"


def _box(node: Node, row: int) -> str:
    y, middle = 8 + row * _ROW, _LEFT + _ENDS / 2
    title = f'<text x="{middle:g}" y="{y + (22 if node.detail else 31)}">{escape(shorten(node.title, 40))}</text>'
    detail = f'<text x="{middle:g}" y="{y + 40}" class="small">{escape(shorten(node.detail, 50))}</text>'
    rect = f'<rect x="{_LEFT}" y="{y}" width="{_ENDS}" height="{_BOX}" rx="{26 if node.kind == "alert" else 8}"/>'
    tip = f"<title>{escape(': '.join(filter(None, (node.title, node.detail))))}</title>"
    return f'<g class="{node.kind}">{tip}{rect}{title}{detail if node.detail else ""}</g>'


def _arrow(edge: Edge, rows: dict[str, int], lane: int) -> str:
    """Draw an arrow: straight down to the next row, or beside the boxes to another row."""
    first, last = rows[edge.start], rows[edge.end]
    y1, y2, middle = 8 + first * _ROW + _BOX, 8 + last * _ROW, _LEFT + _ENDS / 2
    if last == first + 1:
        text = f'<text x="{middle + 8:g}" y="{y1 + 22}" class="label">{escape(edge.label)}</text>'
        return f'<path d="M{middle:g} {y1}V{y2 - 1}" marker-end="url(#tip)"/>{text}'
    good = edge.end in ("verify", "good")
    side, sign = (_LEFT, -1) if good else (_LEFT + _ENDS, 1)
    out = side + sign * (18 + 12 * (lane % 7))
    start, end = y1 - _BOX / 2 + sign * 8, y2 + _BOX / 2 - 14 + 5 * (lane % 6)
    kind = "label left" if good else "label"
    at = out + sign * 4 if good else side + 6
    text = f'<text x="{at:g}" y="{start - 5:g}" class="{kind}">{escape(edge.label)}</text>'
    return f'<path d="M{side} {start:g}H{out}V{end:g}H{side + sign}" marker-end="url(#tip)"/>{text}'
