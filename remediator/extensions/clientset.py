"""The world: every client that actions, checks and guards may use, made once by the composition root."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from remediator.clients.alertmanager.client import Alertmanager
from remediator.clients.allowed_requests import AllowedRequest
from remediator.clients.host.allowed_commands import AllowedCommand
from remediator.clients.prometheus.client import Prometheus
from remediator.core.clock import Clock, SystemClock
from remediator.extensions.platforms.base import Platform
from remediator.playbooks.inventory import Inventory

NOTHING = Inventory(apiVersion="remediator/v1", kind="Inventory", services={})
"""An inventory without services."""


@dataclass(frozen=True, slots=True)
class ClientSet:
    """What can be asked and acted upon."""

    platforms: Mapping[str, Platform] = field(default_factory=dict)
    prometheus: Prometheus | None = None
    alertmanagers: tuple[Alertmanager, ...] = ()
    clock: Clock = field(default_factory=SystemClock)
    folder: Path = Path()
    """What relative paths in the settings of guards start from: where the settings file is."""
    state: Path | None = None
    """The folder that the service writes to, where a person may put a file that says stop."""
    requests: Mapping[str, AllowedRequest] = field(default_factory=dict)
    """The requests that ``http.request`` may make, by name."""
    commands: Mapping[str, AllowedCommand] = field(default_factory=dict)
    """The commands that ``command.run`` may run, by name."""
    inventory: Callable[[], Inventory] = lambda: NOTHING
    """The inventory in force; another one after a reload."""
