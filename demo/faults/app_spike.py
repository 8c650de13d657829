"""More requests than the workers can handle, so that the app refuses requests with status 503."""

from __future__ import annotations

from demo.probe import Probe
from demo.stack import load_spike, processes

NAME = "Traffic spike"
ALERT = "AppHighErrorRate"
TELLS = (
    f"{load_spike.CLIENTS} clients send requests at the same time; each answer takes a second; two workers can hold 64"
)
STARTED_ONCE: str | None = None
_USUAL = 2
_ASKED = 10


def needs(probe: Probe) -> str | None:
    """Return None, because the fault can be made everywhere."""
    return None


def inject(probe: Probe) -> None:
    """Start the spike, which ends after a while."""
    processes.Supervisor(probe.settings).call("startProcess", "spike")


def healed(probe: Probe) -> str | None:
    """Return proof: more workers than usual during the spike, and every test request answered."""
    workers = probe.workers()
    if workers <= _USUAL or not probe.pid("spike"):
        return None
    answered = all(probe.text(probe.settings.ports.nginx, "/items?limit=1") is not None for _ in range(_ASKED))
    return f"{workers} workers, {_ASKED} of {_ASKED} requests answered during the spike" if answered else None


def over(probe: Probe) -> str | None:
    """Return proof that the temporary measure was undone: the usual number of workers."""
    return "undone afterwards: 2 workers" if probe.workers() == _USUAL else None
