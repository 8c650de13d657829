"""A release that answers every second request with an error."""

from __future__ import annotations

from typing import Any

from demo.compose.faults import probes

ALERT = "AppHighErrorRate"
TELLS = "release 1.3-errors is deployed, which answers every second request with 500"
PLAYBOOKS = ("app-high-error-rate",)


def inject(stack: Any) -> None:
    stack.deploy("1.3-errors")


def healed(stack: Any) -> str | None:
    if probes.errors(stack) != 0 or probes.releases(stack) != {"remediator-app:1.2 true"}:
        return None
    return "40 of 40 requests answered, by release 1.2"
