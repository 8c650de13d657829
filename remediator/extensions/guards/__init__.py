"""Built-in guards, one file for each. To add one: write its file and add it to ``BUILTIN``."""

from __future__ import annotations

from remediator.extensions.guards.about_target import AboutTarget
from remediator.extensions.guards.autonomy import Autonomy
from remediator.extensions.guards.base import Guard
from remediator.extensions.guards.circuit_breaker import CircuitBreaker
from remediator.extensions.guards.concurrency import Concurrency
from remediator.extensions.guards.cooldown import Cooldown
from remediator.extensions.guards.dependency import Dependency
from remediator.extensions.guards.freeze import Freeze
from remediator.extensions.guards.kill_switch import KillSwitch
from remediator.extensions.guards.managed_by import ManagedBy
from remediator.extensions.guards.min_healthy import MinHealthy
from remediator.extensions.guards.preconditions import Preconditions
from remediator.extensions.guards.ramp import Ramp
from remediator.extensions.guards.rate_limit import RateLimit
from remediator.extensions.guards.regression import Regression
from remediator.extensions.guards.remedy_memory import RemedyMemory
from remediator.extensions.guards.still_firing import StillFiring
from remediator.extensions.guards.storm import Storm
from remediator.extensions.guards.watchdog import Watchdog

BUILTIN: tuple[type[Guard], ...] = (
    KillSwitch,
    Freeze,
    Watchdog,
    StillFiring,
    Dependency,
    Cooldown,
    RateLimit,
    Concurrency,
    Ramp,
    MinHealthy,
    Storm,
    CircuitBreaker,
    RemedyMemory,
    Preconditions,
    ManagedBy,
    AboutTarget,
    Regression,
    Autonomy,
)
"""In the order of evaluation. Guards of plugins come after them."""
