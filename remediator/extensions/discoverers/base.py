"""The contract of discoverers, which look up targets. A target is a set of labels; the inventory makes a service of it.

A discoverer only reads. It returns all targets or raises an error: a part of them would look like a loss of the rest.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar
from urllib.parse import urlsplit

import msgspec

from remediator.extensions.clientset import ClientSet

Labels = Mapping[str, str]
ADDRESS, HOST, PORT = "__address__", "__host__", "__port__"
"""Labels that a discoverer adds if the source gives an address: ``host:port``, and both parts."""


class Discoverer(ABC):
    """Base class."""

    kind: ClassVar[str]
    """The kind of the discovery in the inventory."""

    def __init__(self, clients: ClientSet) -> None:
        """Keep the clients of the service."""
        self.clients = clients

    @abstractmethod
    async def find(self, discovery: Any) -> Sequence[Labels]:
        """Return the labels of each target.

        Args:
            discovery: the settings, an instance of the model for this kind.

        Raises:
            ClientError: the source cannot be asked, or its answer cannot be read.
            InputError: a file of the source is wrong.
            OSError: a file of the source cannot be read.
        """


class TargetGroup(msgspec.Struct):
    """Targets with common labels, in the format of Prometheus."""

    targets: list[str]
    labels: dict[str, str] = {}


def targets_of(groups: Iterable[TargetGroup]) -> list[Labels]:
    """Return the labels of each target of the groups."""
    return [{**group.labels, **address_labels(address)} for group in groups for address in group.targets]


def address_labels(address: str) -> dict[str, str]:
    """Return the labels of an address, which may be a URL."""
    parts = urlsplit(address if "//" in address else f"//{address}")
    found = {ADDRESS: parts.netloc or address, HOST: parts.hostname or ""}
    try:
        return found | ({} if parts.port is None else {PORT: str(parts.port)})
    except ValueError:  # not a port; the allow-list refuses the value if the template uses it
        return found
