"""The required part of the module ``dataclasses`` for ``remediator-remote``, because Python 3.6 lacks it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def dataclass(**_: Any) -> Callable[[type], type]:
    """Give a class the constructor, the equality and the text of a frozen data class."""

    def decorate(made: type) -> type:
        names = list(made.__annotations__)

        def construct(self: Any, *values: Any, **given: Any) -> None:
            found = dict(zip(names, values), **given)  # noqa: B905
            unknown = [name for name in found if name not in names]
            missing = [name for name in names if name not in found and not hasattr(made, name)]
            if unknown or missing or len(values) > len(names):
                raise TypeError(f"{made.__name__}: unknown {unknown}, missing {missing}")
            self.__dict__.update(found)

        def equals(self: Any, other: Any) -> bool:
            return type(self) is type(other) and asdict(self) == asdict(other)

        def text(self: Any) -> str:
            return f"{made.__name__}({asdict(self)})"

        for name, function in (("__init__", construct), ("__eq__", equals), ("__repr__", text)):
            setattr(made, name, function)
        return made

    return decorate


def asdict(record: Any) -> dict[str, Any]:
    """Return the fields of a data class whose values are plain."""
    return {name: getattr(record, name) for name in type(record).__annotations__}
