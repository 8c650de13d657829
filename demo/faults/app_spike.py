"""More is asked of the app than its workers have room for: requests are turned away, with status 503."""

from __future__ import annotations

from demo.probe import Probe
from demo.stack import load_spike, processes

NAME = "Traffic spike"
ALERT = "AppHighErrorRate"
TELLS = f"{load_spike.CLIENTS} clients ask at the same time, each answer takes a second, two workers have room for 64"
STARTED_ONCE: str | None = None
_USUAL = 2
_ASKED = 10


def needs(probe: Probe) -> str | None:
    """Nothing that is not everywhere."""
    return None


def inject(probe: Probe) -> None:
    """It ends by itself, like any spike."""
    processes.Supervisor(probe.settings).call("startProcess", "spike")


def healed(probe: Probe) -> str | None:
    """There are more workers than usual, while the spike lasts, and each of some requests is answered."""
    workers = probe.workers()
    if workers <= _USUAL or not probe.pid("spike"):
        return None
    answered = all(probe.text(probe.settings.ports.nginx, "/items?limit=1") is not None for _ in range(_ASKED))
    return f"{workers} workers, {_ASKED} of {_ASKED} requests answered during the spike" if answered else None


def over(probe: Probe) -> str | None:
    """The measure was temporary: there are as many workers as usual again."""
    return "put back afterwards: 2 workers" if probe.workers() == _USUAL else None
