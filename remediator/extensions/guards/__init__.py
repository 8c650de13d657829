"""Built-in guards, one file for each. To add one: write its file and add it to ``BUILTIN``."""

from __future__ import annotations

from remediator.extensions.guards.autonomy import Ladder
from remediator.extensions.guards.base import Guard
from remediator.extensions.guards.circuit_breaker import Breaker
from remediator.extensions.guards.concurrency import Concurrency
from remediator.extensions.guards.cooldown import Cooldown
from remediator.extensions.guards.dependency import Dependency
from remediator.extensions.guards.freeze import Freeze
from remediator.extensions.guards.kill_switch import StopButton
from remediator.extensions.guards.managed_by import Owner
from remediator.extensions.guards.min_healthy import MinHealthy
from remediator.extensions.guards.preconditions import Preconditions
from remediator.extensions.guards.ramp import Ramp
from remediator.extensions.guards.rate_limit import Budget
from remediator.extensions.guards.regression import GotWorse
from remediator.extensions.guards.still_firing import StillFiring
from remediator.extensions.guards.storm import Storm
from remediator.extensions.guards.watchdog import Watchdog

BUILTIN: tuple[type[Guard], ...] = (
    StopButton,
    Freeze,
    Watchdog,
    StillFiring,
    Dependency,
    Cooldown,
    Budget,
    Concurrency,
    Ramp,
    MinHealthy,
    Storm,
    Breaker,
    Preconditions,
    Owner,
    GotWorse,
    Ladder,
)
"""In the order of evaluation. Guards of plugins come after them."""
