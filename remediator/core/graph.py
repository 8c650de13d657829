"""Walks over a graph that is given as a mapping from a name to its neighbours; a name without any may be missing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping


def reach(graph: Mapping[str, Iterable[str]], start: str) -> tuple[str, ...]:
    """Return all names that can be reached from a name, without itself, the nearest first."""
    found = {start: None}
    for name in (queue := [start]):
        for other in graph.get(name, ()):
            if other not in found:
                found[other] = None
                queue.append(other)
    return tuple(found)[1:]


def shortest_cycle(graph: Mapping[str, Iterable[str]], start: str) -> tuple[str, ...]:
    """Return the shortest path from a service back to itself; possibly empty. It begins and ends with it."""
    paths: dict[str, tuple[str, ...]] = {start: (start,)}
    for name in (queue := [start]):
        for other in graph.get(name, ()):
            if other == start:
                return (*paths[name], start)
            if other not in paths:
                paths[other] = (*paths[name], other)
                queue.append(other)
    return ()
