"""The exact arguments of the systemd programs, for units of this host or, in ``remediator-remote``, of another."""

from __future__ import annotations

UNIT_PROPERTIES = (
    "LoadState",
    "ActiveState",
    "SubState",
    "Result",
    "MainPID",
    "InvocationID",
    "NRestarts",
    "ExecMainStatus",
    "ActiveEnterTimestampMonotonic",
)
"""The properties that describe the state of a unit.

The start is read from the monotonic clock of its host. So steps of the wall clock do not change it, and clocks of two
hosts are never compared.
"""
_SYSTEMCTL_OPTIONS = ("--no-pager", "--no-ask-password")


def show_arguments(unit: str) -> tuple[str, ...]:
    """Return the arguments of ``systemctl`` that print the state of a unit."""
    return (*_SYSTEMCTL_OPTIONS, "show", "--property=" + ",".join(UNIT_PROPERTIES), "--", unit)


def restart_arguments(unit: str) -> tuple[str, ...]:
    """Return the arguments of ``systemctl`` that restart a unit and wait until it has started."""
    return (*_SYSTEMCTL_OPTIONS, "restart", "--", unit)


def log_arguments(unit: str, lines: int) -> tuple[str, ...]:
    """Return the arguments of ``journalctl`` that print the last lines of a unit, each with its time."""
    return ("--no-pager", "--output=short-iso-precise", f"--lines={lines}", f"--unit={unit}")
