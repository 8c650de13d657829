"""A release that does not start, because a module is missing. gunicorn exits, and supervisord starts it again."""

from __future__ import annotations

from demo.probe import Probe
from demo.stack import files, processes

NAME = "Bad release: it does not start"
ALERT = "AppCrashLoopBackOff"
TELLS = "release 1.1.0 is deployed; it imports a module that is not installed"
STARTED_ONCE: str | None = None
VERSION = "1.1.0"


def needs(probe: Probe) -> str | None:
    """Return None, because the fault can be made everywhere."""
    return None


def inject(probe: Probe) -> None:
    """Deploy as usual: new folder, link, restart."""
    files.release(probe.settings, VERSION, 'modules = ["prices_client"]\n')
    files.switch(probe.settings, VERSION)
    supervisor = processes.Supervisor(probe.settings)
    supervisor.call("stopProcess", "app")
    supervisor.call("startProcess", "app", False)


def healed(probe: Probe) -> str | None:
    """Return proof: the app is ready and reports another release."""
    ready = probe.get(probe.settings.ports.app, "/readyz")
    if ready is None or ready["release"] == VERSION:
        return None
    return f"app ready, release {ready['release']}"
