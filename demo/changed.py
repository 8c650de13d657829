"""Run the remediator of the stack with other settings for a part of the demonstration."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import yaml

from demo.probe import Probe
from demo.stack import processes

PATIENCE = 240.0
"""Timeout in seconds until it is ready again."""
RECURRENCE_WINDOW = timedelta(seconds=10)
"""How long each success is watched. It is short, because successive faults of the demonstration are no recurrences."""


@contextmanager
def settings(probe: Probe, changes: Mapping[str, Any]) -> Iterator[None]:
    """Replace top-level settings, and restore the old ones at the end, also after an error."""
    path = probe.settings.remediator_yaml
    before = path.read_text()
    try:
        _put_in_force(probe, yaml.safe_dump({**yaml.safe_load(before), **changes}, sort_keys=False))
        yield
    finally:
        _put_in_force(probe, before)


def _put_in_force(probe: Probe, text: str) -> None:
    """Restart the remediator, because it reads these settings only at its start."""
    probe.settings.remediator_yaml.write_text(text)
    supervisor = processes.Supervisor(probe.settings)
    if supervisor.info("remediator")["pid"]:
        supervisor.call("stopProcess", "remediator")
    supervisor.call("startProcess", "remediator")
    ready = probe.settings.ports.remediator
    processes.wait(lambda: probe.get(ready, "/readyz") is not None, "the remediator, restarted", PATIENCE)
