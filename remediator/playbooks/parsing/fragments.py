"""Merge fragments: ``use`` merges them under a playbook, ``include`` inserts their diagnoses and steps into its lists.

This works on nodes, so every value keeps its place in its file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from remediator.playbooks.diagnostics import Diagnostic, did_you_mean
from remediator.playbooks.parsing.nodes import Entry, Items, Node, Scalar, Table, child

Fragments = Mapping[str, Table]
LISTS = ("diagnose", "steps")
_OWN = frozenset({"apiVersion", "kind", "name", "summary"})
"""Keys that describe the fragment itself; they are not merged."""


def resolve(root: Table, fragments: Fragments) -> tuple[Table, list[Diagnostic]]:
    """Return a playbook with its fragments merged, without ``use`` and ``include``, and the errors."""
    diagnostics: list[Diagnostic] = []
    entries = dict(root.entries)
    use = entries.pop("use", None)
    merged = replace(root, entries=entries)
    if use is not None:
        names = []
        for item in use.value.items if isinstance(use.value, Items) else [use.value]:
            if isinstance(item, Scalar) and isinstance(item.value, str):
                names.append(item)
            else:
                message = "'use' must be a list of names"
                diagnostics.append(item.diagnostic("wrong-type", message, "write use: [defaults]"))
        for name in reversed(names):
            fragment = _find_fragment(name, fragments, diagnostics)
            if fragment is not None:
                content = {key: entry for key, entry in fragment.entries.items() if key not in _OWN}
                merged = _merge(replace(fragment, entries=content), merged)
    for section in LISTS:
        entry = merged.entries.get(section)
        if entry is not None and isinstance(entry.value, Items):
            items = list(_expand(entry.value.items, section, fragments, (), diagnostics))
            merged.entries[section] = Entry(entry.key, replace(entry.value, items=items))
    return merged, diagnostics


def without_includes(fragment: Table) -> Table:
    """Return a fragment without its includes, to check it alone. Included parts are checked in their own fragment."""
    entries = dict(fragment.entries)
    for section in LISTS:
        entry = entries.get(section)
        if entry is not None and isinstance(entry.value, Items):
            items = [item for item in entry.value.items if not (isinstance(item, Table) and "include" in item.entries)]
            entries[section] = Entry(entry.key, replace(entry.value, items=items))
    return replace(fragment, entries=entries)


def _find_fragment(name: Scalar, fragments: Fragments, diagnostics: list[Diagnostic]) -> Table | None:
    fragment = fragments.get(str(name.value))
    if fragment is None:
        hint = did_you_mean(str(name.value), fragments) or "no file has kind: Fragment"
        diagnostics.append(name.diagnostic("unknown-fragment", f"unknown fragment {name.value!r}", hint))
    return fragment


def _merge(base: Table, override: Table) -> Table:
    """Merge mappings key by key. For everything else, lists included, the override replaces the base."""
    entries = dict(base.entries)
    for name, entry in override.entries.items():
        below = entries.get(name)
        if below is not None and isinstance(below.value, Table) and isinstance(entry.value, Table):
            entry = Entry(entry.key, _merge(below.value, entry.value))
        entries[name] = entry
    return replace(override, entries=entries)


def _expand(
    items: Iterable[Node], section: str, fragments: Fragments, parents: tuple[str, ...], diagnostics: list[Diagnostic]
) -> Iterator[Node]:
    """Yield the items of a list, with each ``{include: name}`` replaced by the items of the fragment."""
    for item in items:
        if not isinstance(item, Table) or "include" not in item.entries:
            yield item
            continue
        for key, entry in item.entries.items():
            if key != "include":
                message = f"unknown key {key!r}: include does not allow other keys beside it"
                diagnostics.append(entry.key.diagnostic("unknown-key", message))
        name = item.entries["include"].value
        if not isinstance(name, Scalar) or not isinstance(name.value, str):
            diagnostics.append(name.diagnostic("wrong-type", "'include' must be the name of a fragment"))
        elif (fragment := _find_fragment(name, fragments, diagnostics)) is not None:
            path = (*parents, name.value)
            listed = child(fragment, section)
            if name.value in parents:
                message = f"fragments include each other in a cycle: {' -> '.join(path)}"
                diagnostics.append(name.diagnostic("fragment-cycle", message))
            elif not isinstance(listed, Items):
                message = f"the fragment {name.value!r} has no {section}"
                diagnostics.append(name.diagnostic("unknown-fragment", message))
            else:
                yield from _expand(listed.items, section, fragments, path, diagnostics)
