"""Fragments put in: ``use`` merges them under a playbook, ``include`` puts their diagnoses and steps into its lists.

This happens on nodes, so that everything keeps the place that it was written at.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from remediator.playbooks.diagnostics import Diagnostic, did_you_mean
from remediator.playbooks.parsing.nodes import Entry, Items, Node, Scalar, Table, child

Fragments = Mapping[str, Table]
LISTS = ("diagnose", "steps")
_OWN = frozenset({"apiVersion", "kind", "name", "summary"})
"""What a fragment says about itself, and never about a playbook."""


def resolve(root: Table, fragments: Fragments) -> tuple[Table, list[Diagnostic]]:
    """A playbook with its fragments put in, without ``use`` and ``include``; and what is wrong with them."""
    findings: list[Diagnostic] = []
    entries = dict(root.entries)
    use = entries.pop("use", None)
    merged = replace(root, entries=entries)
    if use is not None:
        for name in reversed(list(_names(use.value, findings))):
            fragment = _known(name, fragments, findings)
            if fragment is not None:
                merged = _merged(_stripped(fragment), merged)
    for section in LISTS:
        entry = merged.entries.get(section)
        if entry is not None and isinstance(entry.value, Items):
            items = _included(entry.value.items, section, fragments, (), findings)
            merged.entries[section] = Entry(entry.key, replace(entry.value, items=items))
    return merged, findings


def without_includes(fragment: Table) -> Table:
    """A fragment as it stands, for checking by itself; what it includes is checked where that is."""
    entries = dict(fragment.entries)
    for section in LISTS:
        entry = entries.get(section)
        if entry is not None and isinstance(entry.value, Items):
            items = [item for item in entry.value.items if not (isinstance(item, Table) and "include" in item.entries)]
            entries[section] = Entry(entry.key, replace(entry.value, items=items))
    return replace(fragment, entries=entries)


def _names(node: Node, findings: list[Diagnostic]) -> Iterable[Scalar]:
    """The fragments that ``use`` names: a list, or one alone."""
    items = node.items if isinstance(node, Items) else [node]
    for item in items:
        if isinstance(item, Scalar) and isinstance(item.value, str):
            yield item
        else:
            findings.append(item.finding("wrong-type", "use must be a list of names", "write it like use: [defaults]"))


def _known(name: Scalar, fragments: Fragments, findings: list[Diagnostic]) -> Table | None:
    fragment = fragments.get(str(name.value))
    if fragment is None:
        hint = did_you_mean(str(name.value), fragments) or "there is no file of kind Fragment"
        findings.append(name.finding("unknown-fragment", f"there is no fragment {name.value!r}", hint))
    return fragment


def _stripped(fragment: Table) -> Table:
    return replace(fragment, entries={name: entry for name, entry in fragment.entries.items() if name not in _OWN})


def _merged(under: Table, over: Table) -> Table:
    """Mappings are merged key by key; of anything else the upper one stands, lists as a whole."""
    entries = dict(under.entries)
    for name, entry in over.entries.items():
        below = entries.get(name)
        if below is not None and isinstance(below.value, Table) and isinstance(entry.value, Table):
            entry = Entry(entry.key, _merged(below.value, entry.value))
        entries[name] = entry
    return replace(over, entries=entries)


def _included(
    items: Iterable[Node], section: str, fragments: Fragments, inside: tuple[str, ...], findings: list[Diagnostic]
) -> list[Node]:
    found: list[Node] = []
    for item in items:
        name = _include(item, findings)
        if name is None:
            found.append(item)
        else:
            found.extend(_content(name, section, fragments, inside, findings))
    return found


def _include(item: Node, findings: list[Diagnostic]) -> Scalar | None:
    """The name in ``{include: name}``; None for anything else."""
    if not isinstance(item, Table) or "include" not in item.entries:
        return None
    for name, entry in item.entries.items():
        if name != "include":
            message = f"include stands alone; there is no key {name!r} beside it"
            findings.append(entry.key.finding("unknown-key", message))
    name_node = item.entries["include"].value
    if isinstance(name_node, Scalar) and isinstance(name_node.value, str):
        return name_node
    findings.append(name_node.finding("wrong-type", "'include' must be a fragment's name"))
    return Scalar(name_node.text, name_node.line, name_node.column, 1, None, "", None)


def _content(
    name: Scalar, section: str, fragments: Fragments, inside: tuple[str, ...], findings: list[Diagnostic]
) -> list[Node]:
    if name.value is None:
        return []
    fragment = _known(name, fragments, findings)
    if fragment is None:
        return []
    if str(name.value) in inside:
        circle = " -> ".join((*inside, str(name.value)))
        findings.append(name.finding("fragment-circle", f"fragments include each other in a circle: {circle}"))
        return []
    listed = child(fragment, section)
    if not isinstance(listed, Items):
        findings.append(name.finding("unknown-fragment", f"the fragment {name.value!r} has no {section}"))
        return []
    return _included(listed.items, section, fragments, (*inside, str(name.value)), findings)
