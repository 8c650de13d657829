"""Services from discovered targets: each target fills the template of its discovery and becomes one service.

A service is built from its labels when it is used, and only some services are kept, so ten thousand targets need little
memory. A target that gives no valid service is skipped, with the reason; other targets stay.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from pydantic import PrivateAttr, ValidationError

from remediator.errors import InputError
from remediator.playbooks.discovery import Discovery, fits, leaves
from remediator.playbooks.inventory import Defaults, Inventory, Service
from remediator.playbooks.references import references, substitute
from remediator.playbooks.service_index import ServiceFacts, ServiceIndex

Labels = Mapping[str, str]
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_KEPT = 128
"""How many discovered services are kept built."""
_PROMQL = frozenset({"in_flight"})
"""Keys of a service whose value is PromQL."""


@dataclass(frozen=True, slots=True)
class TargetSet:
    """The targets that one lookup found: one row of values for each target, to need little memory."""

    labels: tuple[str, ...]
    """The names of the labels in the allow-list. A target without a label has an empty value."""
    rows: tuple[tuple[str, ...], ...]
    version: str
    """Identifies the content."""

    @classmethod
    def of(cls, discovery: Discovery, targets: Iterable[Labels]) -> TargetSet:
        """Return the labels that the allow-list names, sorted: the order of a source is no difference."""
        labels = tuple(sorted(discovery.allow.labels))
        rows = tuple(sorted({tuple(each.get(label, "") for label in labels) for each in targets}))
        return cls.stored(labels, rows)

    @classmethod
    def stored(cls, labels: Iterable[str], rows: Iterable[Iterable[str]]) -> TargetSet:
        """Return a set with its version. Equal values are interned, to save memory."""
        names, found = tuple(labels), tuple(tuple(map(sys.intern, row)) for row in rows)
        return cls(names, found, sha256(json.dumps([names, found]).encode()).hexdigest()[:16])

    def __iter__(self) -> Iterator[Labels]:
        return (dict(zip(self.labels, row, strict=True)) for row in self.rows)


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A target that is no service, and why."""

    discovery: str
    target: str
    """Its labels as text."""
    reason: str

    def __str__(self) -> str:
        return f"{self.discovery}: target {self.target} left out: {self.reason}"


@dataclass(frozen=True, slots=True)
class Template:
    """The template of one discovery, with the defaults of the inventory."""

    name: str
    """Name of the discovery."""
    discovery: Discovery
    defaults: Defaults
    base: Path | None

    def service(self, labels: Labels) -> Service:
        """Return the service of a target.

        Raises:
            InputError: its labels are not allowed, or the result is not a valid service.
        """
        if refusal := self.discovery.refusal(labels):
            raise InputError(refusal)
        name = str(substitute(self.discovery.name, labels))
        if not _NAME.fullmatch(name):
            raise InputError(
                f"{name!r} is not a valid name; use lower-case letters, digits, - . and _, at most 63 characters"
            )
        if not any(fits(each, name) for each in self.discovery.allow.names):
            raise InputError(f"name {name!r} is not allowed; allowed: {', '.join(self.discovery.allow.names)}")
        data = {**filled(self.discovery.template, labels), "name": name}
        try:
            made = Service.model_validate(data, context={"base": self.base})
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(map(str, first["loc"]))
            message = str(first["msg"]).removeprefix("Value error, ")
            raise InputError(f"{place}: {message}" if place else message) from None
        completed = self.defaults.complete(made)
        for problem in completed.problems():
            raise InputError(str(problem))
        return completed


def templates(inventory: Inventory) -> tuple[Template, ...]:
    """Return the templates of an inventory."""
    return tuple(
        Template(name, discovery, inventory.defaults, inventory.base) for name, discovery in inventory.discover.items()
    )


def example(discovery: Discovery) -> Labels:
    """Return labels that an allow-list allows, for checks without targets."""
    return {label: _example(patterns[0]) for label, patterns in discovery.allow.labels.items()}


def filled(value: Any, labels: Labels, key: str = "") -> Any:
    """Return a part of a template with its placeholders replaced. A label never becomes a key."""
    if isinstance(value, Mapping):
        return {name: filled(item, labels, name) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [filled(item, labels, key) for item in value]
    return substitute(value, labels, promql=key in _PROMQL)


def _example(pattern: str) -> str:
    """Return a value that a pattern of an allow-list accepts; a number where anything is allowed."""
    if "/" in pattern:
        return pattern.partition("/")[0]
    return re.sub(r"\[!?(.)[^\]]*\]|[*?]", lambda found: found[1] or "1", pattern)


def shown(labels: Labels) -> str:
    """Return the labels of a target as text."""
    return ", ".join(f"{label}={value[:60]!r}" for label, value in sorted(labels.items())) or "without labels"


def with_examples(written: Inventory) -> Inventory:
    """Return an inventory with one example of each discovery, for checks without targets."""
    if not written.discover:
        return written
    sets = {name: TargetSet.of(each, [example(each)]) for name, each in written.discover.items()}
    return merge(written, sets).inventory


class Services(Mapping[str, Service]):
    """The services of an inventory: the written services, and one service for each discovered target."""

    def __init__(self, written: Mapping[str, Service], found: Mapping[str, _Found]) -> None:
        self.written = written
        self.origins = {name: (each.template, each.labels, each.row) for name, each in found.items()}
        """Of each discovered service: the template, and the names and values of its labels."""
        facts = [service.facts for service in written.values()] + [each.facts for each in found.values()]
        self.index = ServiceIndex(facts)
        self._built = lru_cache(maxsize=_KEPT)(self._build)
        for service in written.values():
            service._index = self.index

    def __getitem__(self, name: str) -> Service:
        found = self.written.get(name)
        return self._built(name) if found is None else found

    def _build(self, name: str) -> Service:
        template, labels, row = self.origins[name]
        made = template.service(dict(zip(labels, row, strict=True)))
        made._index = self.index
        return made

    def __contains__(self, name: object) -> bool:
        return name in self.written or name in self.origins

    def __iter__(self) -> Iterator[str]:
        yield from self.written
        yield from self.origins

    def __len__(self) -> int:
        return len(self.written) + len(self.origins)


class MergedInventory(Inventory):
    """An inventory with the services of discovered targets. It is built by :func:`merge`, never read from a file."""

    _services: Services = PrivateAttr()
    _versions: Mapping[str, str] = PrivateAttr()
    _typical: tuple[Service, ...] = PrivateAttr()

    @property
    def typical(self) -> tuple[Service, ...]:
        return self._typical

    def source_of(self, name: str) -> str:
        origin = self._services.origins.get(name)
        return "" if origin is None else origin[0].name

    def labels_of(self, name: str) -> Labels:
        """Return the labels of the target of a discovered service."""
        _, labels, row = self._services.origins[name]
        return dict(zip(labels, row, strict=True))

    def version_of(self, discovery: str) -> str:
        return self._versions.get(discovery, "")

    def found_by(self, discovery: str) -> set[str]:
        return {name for name, (template, _, _) in self._services.origins.items() if template.name == discovery}


@dataclass(frozen=True, slots=True)
class Merged:
    """The result of :func:`merge`."""

    inventory: Inventory
    left_out: tuple[LeftOut, ...]


@dataclass(frozen=True, slots=True)
class _Found:
    """A target that gave a valid service."""

    template: Template
    labels: tuple[str, ...]
    row: tuple[str, ...]
    facts: ServiceFacts

    def left_out(self, reason: str) -> LeftOut:
        return LeftOut(self.template.name, shown(dict(zip(self.labels, self.row, strict=True))), reason)


def merge(written: Inventory, sets: Mapping[str, TargetSet]) -> Merged:
    """Return the inventory with one service for each discovered target.

    A target is skipped in each of these cases:

    - Its labels are not allowed.
    - The template gives no valid service, or the name of a written service.
    - Several targets have one name.
    - It depends on a missing service, or in a cycle.

    Args:
        written: the inventory as it is in its file.
        sets: the targets of each discovery. A set of a discovery that the file no longer has is ignored.
    """
    left: list[LeftOut] = []
    named: dict[str, list[_Found]] = {}
    typical = list(written.services.values())
    for template in templates(written):
        first = True
        for each, service in _valid(template, sets.get(template.name), left):
            if service.name in written.services:
                left.append(each.left_out(f"the inventory has a written service {service.name!r}"))
                continue
            named.setdefault(service.name, []).append(each)
            if first:
                typical.append(service)
                first = False
    found: dict[str, _Found] = {}
    for name, targets in named.items():
        if len(targets) == 1:
            found[name] = targets[0]
        else:
            left += [each.left_out(f"{len(targets)} targets have the name {name!r}") for each in targets]
    left += _without_impossible_dependencies(written, found)
    services = Services(written.services, found)
    made = MergedInventory.model_construct(**{**dict(written), "services": services})
    made._services, made._index, made._base = services, services.index, written.base
    made._versions = {name: each.version for name, each in sets.items()}
    made._typical = tuple(typical)
    return Merged(made, tuple(left))


def _valid(template: Template, targets: TargetSet | None, left: list[LeftOut]) -> Iterator[tuple[_Found, Service]]:
    """Yield the targets that give a valid service; add all other targets to ``left``."""
    if targets is None:
        return
    most = template.discovery.allow.targets
    too_many = len(targets.rows) > most
    for labels, row in zip(targets, targets.rows, strict=True):
        try:
            if too_many:
                raise InputError(f"the source has {len(targets.rows)} targets, and allow.targets is {most}")
            service = template.service(labels)
        except InputError as error:
            left.append(LeftOut(template.name, shown(labels), str(error)))
            continue
        yield _Found(template, targets.labels, row, service.facts), service


def _without_impossible_dependencies(written: Inventory, found: dict[str, _Found]) -> Iterator[LeftOut]:
    """Remove services with a missing or cyclic dependency until no such service is left; yield them."""
    while True:
        wrong = {
            name: f"it depends on {other!r}, which does not exist"
            for name, each in found.items()
            for other in each.facts.depends_on
            if other not in found and other not in written.services
        }
        if not wrong:
            index = ServiceIndex([each.facts for each in found.values()])
            wrong = {name: "it depends on itself through other services" for name in index.in_or_between_cycles()}
        if not wrong:
            return
        for name in wrong.keys() & found.keys():
            yield found.pop(name).left_out(wrong[name])


def values_of(inventory: Inventory, name: str) -> Iterator[tuple[str, str, str]]:
    """Yield each value of a service: its place, the value as text, and where it comes from."""
    service = inventory.service(name)
    labels = inventory.labels_of(name) if isinstance(inventory, MergedInventory) and inventory.source_of(name) else {}
    template = inventory.discover[inventory.source_of(name)].template if labels else None
    written = service.model_dump(mode="json", by_alias=True, exclude_unset=True) if template is None else template
    for path, value in leaves(service.model_dump(mode="json", by_alias=True, exclude={"name"})):
        given = _at(written, path)
        used = sorted(set(references(given)))
        if used:
            origin = f"template, {shown({label: labels[label] for label in used})}"
        elif path[0] in service.shared_keys:
            origin = "defaults"
        elif given is None:
            origin = "default"
        else:
            origin = "written" if template is None else "template"
        yield ".".join(map(str, path)), json.dumps(value, ensure_ascii=False), origin


def _at(value: Any, path: tuple[str | int, ...]) -> Any:
    """Return the value at a path; None if there is no value. A text means a list with this text."""
    for step in path:
        if isinstance(value, str) and step == 0:
            continue
        try:
            value = value[step]
        except (KeyError, IndexError, TypeError):
            return None
    return value
