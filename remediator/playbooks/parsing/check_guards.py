"""What files say of guards: are there such guards, and do their settings fit? In playbooks and in the settings file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from pydantic import BaseModel

from remediator.playbooks.catalogue import plain_field
from remediator.playbooks.diagnostics import Diagnostic, did_you_mean
from remediator.playbooks.model import Off
from remediator.playbooks.parsing.nodes import Items, Node, Path, Table, child, data, find, key_of
from remediator.playbooks.parsing.validation import build, faults

Offered = Mapping[str, type[BaseModel]]


def unfit(offered: Offered, root: Node, names: Iterable[str]) -> Iterator[Diagnostic]:
    """What is wrong with the settings of these guards below ``guards``."""
    for name in names:
        path: Path = ("guards", name)
        node, _ = find(root, path)
        if name not in offered:
            place = key_of(root, path) or node
            yield place.finding("unknown-guard", f"there is no guard {name!r}", did_you_mean(name, offered))
            continue
        plain = None if isinstance(node, Table | Items) else plain_field(offered[name])
        for fault in faults(offered[name], node, values=None if plain is None else {plain: data(node)}):
            message = re.sub("^this( |:)", rf"{name!r}\1", fault.message)
            yield replace(fault, message=message).finding(node)


def strangers(offered: Offered, root: Node, off: Iterable[tuple[int, Off]]) -> Iterator[Diagnostic]:
    """Guards that are switched off below ``guards.off``, and that there are not."""
    for at, item in off:
        if item.guard not in offered:
            node, _ = find(root, ("guards", "off", at, "guard"))
            hint = did_you_mean(item.guard, offered)
            yield node.finding("unknown-guard", f"there is no guard {item.guard!r}", hint)


def of_installation(offered: Offered, root: Node) -> Iterator[Diagnostic]:
    """What is wrong with guards in a settings file, whose model leaves them to whoever knows the guards."""
    table = child(root, "guards")
    if not isinstance(table, Table):
        return
    yield from unfit(offered, root, (name for name in table.entries if name != "off"))
    listed = child(table, "off")
    if listed is not None and not isinstance(listed, Items):
        hint = "write it as a list: [{guard: ramp, reason: …}]"
        yield listed.finding("wrong-type", "'off' must be a list", hint)
    for item in listed.items if isinstance(listed, Items) else ():
        yield from (fault.finding(item) for fault in faults(Off, item))
    yield from strangers(offered, root, switched_off(root))


def switched_off(root: Node) -> Iterator[tuple[int, Off]]:
    """The entries of ``guards.off`` that can be used, with their numbers."""
    table = child(root, "guards")
    listed = child(table, "off") if table is not None else None
    for at, item in enumerate(listed.items if isinstance(listed, Items) else ()):
        off = build(Off, item)
        if off is not None:
            yield at, off
