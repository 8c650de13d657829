"""The clients that actions, checks and guards can use. The service creates them once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from remediator.clients.alertmanager.client import Alertmanager
from remediator.clients.allowed_requests import AllowedRequest
from remediator.clients.host.allowed_commands import AllowedCommand
from remediator.clients.prometheus.client import Prometheus
from remediator.core.alert import ALERTMANAGER, REPLICA_LABELS
from remediator.core.clock import Clock, SystemClock
from remediator.errors import TargetError
from remediator.extensions.platforms.base import Platform
from remediator.extensions.sources.base import Peer
from remediator.playbooks.inventory import Inventory, Service

NOTHING = Inventory(apiVersion="remediator/v1", kind="Inventory", services={})
"""An inventory without services."""


@dataclass(frozen=True, slots=True)
class ClientSet:
    """All clients of the service, with the clock and the allowed requests and commands."""

    platforms: Mapping[str, Platform] = field(default_factory=dict)
    prometheus: Prometheus | None = None
    alertmanagers: tuple[Alertmanager, ...] = ()
    sources: Mapping[str, Sequence[Peer]] = field(default_factory=dict)
    """The servers that know which alerts of each further source fire, by the name of the source.

    Empty for a source without an API. ``alertmanagers`` has the servers of the source alertmanager.
    """
    ignored_labels: frozenset[str] = frozenset(REPLICA_LABELS)
    """Labels that do not distinguish alerts from each other."""
    clock: Clock = field(default_factory=SystemClock)
    folder: Path = Path()
    """Folder of the settings file. Relative paths in the settings of guards start here."""
    state: Path | None = None
    """State folder of the service, where an operator can create the stop file."""
    requests: Mapping[str, AllowedRequest] = field(default_factory=dict)
    """Requests that ``http.request`` can send, by name."""
    commands: Mapping[str, AllowedCommand] = field(default_factory=dict)
    """Commands that ``command.run`` can run, by name."""
    inventory: Callable[[], Inventory] = lambda: NOTHING
    """Returns the active inventory, which a reload replaces."""

    def platform_of(self, service: Service) -> Platform:
        """Return the platform that runs a service."""
        return self.platforms[service.platform.kind]

    def required_prometheus(self) -> Prometheus:
        """Return the client of Prometheus.

        Raises:
            TargetError: there is none.
        """
        if self.prometheus is None:
            raise TargetError("no Prometheus is configured; set 'prometheus' in the settings")
        return self.prometheus

    def peers(self, source: str) -> Sequence[Peer]:
        """Return the servers that know which alerts of a source fire; none if no server can say."""
        return self.alertmanagers if source == ALERTMANAGER else self.sources.get(source, ())
