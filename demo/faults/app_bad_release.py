"""A release that does not start: it needs a module that nobody installed. gunicorn ends, supervisord tries again."""

from __future__ import annotations

from demo.probe import Probe
from demo.stack import files, processes

NAME = "Bad release: it does not start"
ALERT = "AppCrashLoopBackOff"
TELLS = "release 1.1.0 is deployed; it imports a module that is not there"
STARTED_ONCE: str | None = None
VERSION = "1.1.0"


def needs(probe: Probe) -> str | None:
    """Nothing that is not everywhere."""
    return None


def inject(probe: Probe) -> None:
    """A deployment as any other: a new folder, the link, a restart."""
    files.release(probe.settings, VERSION, 'modules = ["prices_client"]\n')
    files.switch(probe.settings, VERSION)
    supervisor = processes.Supervisor(probe.settings)
    supervisor.call("stopProcess", "app")
    supervisor.call("startProcess", "app", False)


def healed(probe: Probe) -> str | None:
    """The app is ready, and says itself that it is another release."""
    ready = probe.get(probe.settings.ports.app, "/readyz")
    if ready is None or ready["release"] == VERSION:
        return None
    return f"app ready, release {ready['release']}"
