"""A release that exits at the start, because a module is missing."""

from __future__ import annotations

from typing import Any

from demo.compose.faults import probes

ALERT = "AppCrashLoopBackOff"
TELLS = "release 1.1-crash is deployed, which needs a module that is not installed"
PLAYBOOKS = ("app-crash-loop",)


def inject(stack: Any) -> None:
    stack.deploy("1.1-crash")


def healed(stack: Any) -> str | None:
    if probes.releases(stack) != {"remediator-app:1.0 true"} or probes.ready(stack) is None:
        return None
    return "both containers run remediator-app:1.0 again, and the app is ready"
