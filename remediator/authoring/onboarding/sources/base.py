"""The contract of a source of services, such as a Docker Engine or supervisord."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar


@dataclass(frozen=True, slots=True)
class FoundService:
    """A service that a source knows."""

    name: str
    """A valid name for the inventory."""
    platform: Mapping[str, Any]
    """The binding, as in the inventory."""
    aliases: frozenset[str]
    """Other names of the service in alerts, in lower case."""


@dataclass(frozen=True, slots=True)
class Found:
    """The result of one source."""

    text: str
    """The result, or the reason why nothing was found, as one line."""
    services: tuple[FoundService, ...] = ()


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The places where the sources look for services."""

    environment: Mapping[str, str] = field(default_factory=dict)
    folder: Path = Path()
    supervisor: str | None = None
    """URL of supervisord; None to look for its socket."""


class Source(ABC):
    """Base class of sources. A source only reads, and never asks for a password."""

    name: ClassVar[str]

    @abstractmethod
    async def find(self, surroundings: Surroundings) -> Found:
        """Return the services that this source knows. A source that does not run here is not an error."""


def service_name(text: str) -> str:
    """Return a text as a valid name of a service."""
    return re.sub(r"[^a-z0-9._-]+", "-", text.lower()).strip("-._")[:63] or "service"


def aliases(names: Iterable[str]) -> frozenset[str]:
    """Return names in lower case, without empty names."""
    return frozenset(name.lower() for name in names if name)
