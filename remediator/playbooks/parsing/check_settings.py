"""Check the settings of guards, in playbooks and in the settings file, and its channels and sources.

The models leave them open, because each kind has its own settings.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace

from pydantic import BaseModel

from remediator.playbooks.catalogue import Catalogue, plain_field
from remediator.playbooks.diagnostics import Diagnostic, did_you_mean
from remediator.playbooks.model import DisabledGuard
from remediator.playbooks.parsing.messages import error_at
from remediator.playbooks.parsing.nodes import Items, Node, Path, Scalar, Table, child, data, find, key_of
from remediator.playbooks.parsing.validation import build, field_errors

Guards = Mapping[str, type[BaseModel]]


def check_settings(catalogue: Catalogue, root: Node) -> Iterator[Diagnostic]:
    """Check the guards, channels and sources of a settings file."""
    guards = child(root, "guards")
    if isinstance(guards, Table):
        yield from check_guard_settings(catalogue.guards, root, (name for name in guards.entries if name != "off"))
        listed = child(guards, "off")
        if listed is not None and not isinstance(listed, Items):
            yield listed.diagnostic("wrong-type", "'off' must be a list", "write [{guard: ramp, reason: …}]")
        for item in listed.items if isinstance(listed, Items) else ():
            yield from (error_at(item, error) for error in field_errors(DisabledGuard, item))
        yield from check_disabled_guards(catalogue.guards, root, disabled_guards(root))
    yield from _check_kinds(child(root, "channels"), catalogue.notifiers, "notifier", catalogue.channel_keys)
    yield from _check_kinds(child(root, "sources"), catalogue.sources, "kind of source", catalogue.source_keys)


def _check_kinds(
    section: Node | None, kinds: Mapping[str, type[BaseModel]], noun: str, common: Collection[str]
) -> Iterator[Diagnostic]:
    """Check the entries of a section with the models of their kinds.

    Args:
        section: a mapping of entries with ``kind``.
        kinds: the models; empty if they are not known.
        noun: what a kind is called in an error.
        common: the keys that every entry can have, which are checked with the file.
    """
    for entry in section.entries.values() if isinstance(section, Table) else ():
        kind = child(entry.value, "kind")
        given = kind.value if isinstance(kind, Scalar) else None
        if kind is None or not isinstance(given, str) or not kinds:
            continue
        if given not in kinds:
            yield kind.diagnostic("wrong-value", f"unknown {noun} {given!r}", did_you_mean(given, kinds))
        elif isinstance(entry.value, Table):
            values = {name: value for name, value in data(entry.value).items() if name not in common}
            errors = field_errors(kinds[given], entry.value, values=values)
            yield from (error_at(entry.value, error) for error in errors)


def check_guard_settings(guards: Guards, root: Node, names: Iterable[str]) -> Iterator[Diagnostic]:
    """Check the settings of these guards below ``guards``."""
    for name in names:
        path: Path = ("guards", name)
        node, _ = find(root, path)
        if name not in guards:
            place = key_of(root, path) or node
            yield place.diagnostic("unknown-guard", f"unknown guard {name!r}", did_you_mean(name, guards))
            continue
        plain = None if isinstance(node, Table | Items) else plain_field(guards[name])
        for error in field_errors(guards[name], node, values=None if plain is None else {plain: data(node)}):
            message = re.sub("^this( |:)", rf"{name!r}\1", error.message)
            yield error_at(node, replace(error, message=message))


def check_disabled_guards(
    guards: Guards, root: Node, disabled: Iterable[tuple[int, DisabledGuard]]
) -> Iterator[Diagnostic]:
    """Check that the guards that ``guards.off`` names exist."""
    for at, item in disabled:
        if item.guard not in guards:
            node, _ = find(root, ("guards", "off", at, "guard"))
            yield node.diagnostic("unknown-guard", f"unknown guard {item.guard!r}", did_you_mean(item.guard, guards))


def disabled_guards(root: Node) -> Iterator[tuple[int, DisabledGuard]]:
    """Yield the valid entries of ``guards.off`` with their positions."""
    guards = child(root, "guards")
    listed = child(guards, "off") if guards is not None else None
    for at, item in enumerate(listed.items if isinstance(listed, Items) else ()):
        off = build(DisabledGuard, item)
        if off is not None:
            yield at, off
