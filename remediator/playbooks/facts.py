"""Facts: the values that a check or an action reports, and that conditions read by name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

FactType = Literal["string", "integer", "number", "boolean", "list", "object"]
ANY = "*"
"""As a part of a name: any name, for example that of a service."""


@dataclass(frozen=True, slots=True)
class Fact:
    """A declared fact. Its value can be null if the source does not report it."""

    name: str
    """For a value inside an object, the path with dots: ``kinds.backups``. A part can be :data:`ANY`.

    An object without declared contents is not checked further.
    """
    type: FactType
    description: str
    unit: str = ""
    values: tuple[str, ...] = ()
    """The possible values of a string; empty if they are not limited."""

    @property
    def path(self) -> tuple[str, ...]:
        """Return the parts of the name."""
        return tuple(self.name.split("."))


def fact_at(facts: Iterable[Fact], path: Sequence[str]) -> Fact | None:
    """Return the declared fact with this path, or None."""
    return next((fact for fact in facts if _matches(fact.path, path)), None)


def names_in(facts: Iterable[Fact], path: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the declared names directly below a path; empty if its contents are not declared."""
    depth = len(path)
    return tuple(
        fact.path[depth] for fact in facts if len(fact.path) == depth + 1 and _matches(fact.path[:depth], path)
    )


def _matches(declared: Sequence[str], path: Sequence[str]) -> bool:
    return len(declared) == len(path) and all(part in (ANY, given) for part, given in zip(declared, path, strict=True))


def deviations(facts: Sequence[Fact], observed: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[str]:
    """Yield how observed facts differ from the declared ones: an undeclared name, another type, an impossible value."""
    for key, value in observed.items():
        here = (*path, str(key))
        name = ".".join(here)
        fact = fact_at(facts, here)
        if fact is None:
            yield f"{name} is not declared"
        elif value is not None and not _is(value, fact.type):
            yield f"{name} is declared as {fact.type}, but is {value!r}"
        elif fact.values and value is not None and value not in fact.values:
            yield f"{name} is {value!r}, which is not a declared value"
        elif isinstance(value, Mapping) and names_in(facts, here):
            yield from deviations(facts, value, here)


_PYTHON: Mapping[FactType, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "list": (list, tuple),
    "object": (Mapping,),
}


def _is(value: Any, kind: FactType) -> bool:
    return isinstance(value, _PYTHON[kind]) and (kind == "boolean" or not isinstance(value, bool))
