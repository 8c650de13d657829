"""Look-ups in an inventory that cost the same with ten services and with ten thousand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from remediator.core.graph import reach

K = TypeVar("K")


@dataclass(frozen=True, slots=True)
class ServiceFacts:
    """The data of a service for the index."""

    name: str
    depends_on: tuple[str, ...]
    alert_labels: tuple[tuple[str, str], ...]
    addresses: tuple[tuple[str, str], ...]
    """The fixed addresses of its endpoints: kind of the endpoint, and address."""


class ServiceIndex:
    """Services by their dependencies, by the labels of their alerts, and by their addresses."""

    def __init__(self, services: Sequence[ServiceFacts]) -> None:
        shared: dict[tuple[str, ...], tuple[str, ...]] = {}
        self.needs = {
            each.name: shared.setdefault(each.depends_on, each.depends_on) for each in services if each.depends_on
        }
        """The services that a service needs directly; only services that need any."""
        self._needed_by = _grouped((other, name) for name, others in self.needs.items() for other in others)
        common = Counter(pair for each in services for pair in each.alert_labels)
        rarest = ((min(each.alert_labels, key=lambda pair: common[pair]), each.name) for each in services)
        self._by_label = _grouped(rarest)
        self._by_address = _grouped((address, each.name) for each in services for address in each.addresses)

    def __eq__(self, other: object) -> bool:
        """Return true for every index: it is derived, so it makes no difference between two inventories."""
        return isinstance(other, ServiceIndex)

    __hash__ = None  # type: ignore[assignment]

    def dependencies(self, name: str) -> tuple[str, ...]:
        """Return all services that a service needs, directly or indirectly, the nearest first."""
        return reach(self.needs, name)

    def dependents(self, name: str) -> tuple[str, ...]:
        """Return all services that need a service, directly or indirectly, the nearest first."""
        return reach(self._needed_by, name)

    def named_by(self, labels: Mapping[str, str]) -> Iterator[str]:
        """Yield the services that have one of these labels, without comparing all their labels."""
        for pair in labels.items():
            yield from self._by_label.get(pair, ())

    def is_neighbour(self, name: str, kinds: Iterable[str], address: str) -> bool:
        """Return whether an address belongs to another service with an endpoint of one of these kinds.

        A service that needs this service may report about it with its own address, so it is not a neighbour.
        """
        owners = (owner for kind in kinds for owner in self._by_address.get((kind, address), ()))
        return any(owner != name and name not in self.dependencies(owner) for owner in owners)

    def in_or_between_cycles(self) -> set[str]:
        """Return the services that depend on each other in a cycle, and those between two cycles."""
        edges = [(name, other) for name, others in self.needs.items() for other in others]
        while True:
            needing, needed = {name for name, _ in edges}, {other for _, other in edges}
            kept = [(name, other) for name, other in edges if name in needed and other in needing]
            if len(kept) == len(edges):
                return needing
            edges = kept


def _grouped(pairs: Iterable[tuple[K, str]]) -> dict[K, tuple[str, ...]]:
    """Return the names of each key."""
    found: dict[K, list[str]] = {}
    for key, name in pairs:
        found.setdefault(key, []).append(name)
    return {key: tuple(names) for key, names in found.items()}
