"""A release that starts and then answers every second request with an error."""

from __future__ import annotations

from demo.probe import Probe
from demo.stack import files, processes

NAME = "Bad release: errors"
ALERT = "AppHighErrorRate"
TELLS = "release 1.2.0 is deployed; every second request ends in an error"
STARTED_ONCE: str | None = None
VERSION = "1.2.0"


def needs(probe: Probe) -> str | None:
    """Return None, because the fault can be made everywhere."""
    return None


def inject(probe: Probe) -> None:
    """Deploy as usual: new folder, link, restart."""
    files.release(probe.settings, VERSION, "[faults]\nerror_rate = 0.5\n")
    files.switch(probe.settings, VERSION)
    supervisor = processes.Supervisor(probe.settings)
    supervisor.call("stopProcess", "app")
    supervisor.call("startProcess", "app")


def healed(probe: Probe) -> str | None:
    """Return proof: the app runs another release and answers twenty requests in a row through nginx."""
    ready = probe.get(probe.settings.ports.app, "/readyz")
    if ready is None or ready["release"] == VERSION:
        return None
    answered = all(probe.text(probe.settings.ports.nginx, "/items?limit=1") is not None for _ in range(20))
    return f"release {ready['release']}, 20 of 20 requests answered" if answered else None
