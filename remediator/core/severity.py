"""The severity of alerts, as pagers name it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from remediator.core.run import Episode

Severity = Literal["critical", "error", "warning", "info"]
SEVERITIES: tuple[Severity, ...] = ("critical", "error", "warning", "info")
"""The severities that pagers know, the highest first."""
DEFAULT = "warning"
"""The severity of alerts without a severity."""
_SAME = {"page": "critical", "high": "error", "major": "error", "minor": "warning", "low": "info", "none": "info"}


def as_pagers_name_it(severity: str) -> str:
    """Return a severity in the terms of pagers: ``page`` is ``critical``. An unknown severity is returned unchanged."""
    return _SAME.get(severity.lower(), severity.lower())


def highest_severity(alerts: Iterable[Episode]) -> str:
    """Return the highest severity of alerts, in the terms of pagers; ``warning`` if no alert has a severity."""
    said = [alert.labels.get("severity", "").lower() for alert in alerts]
    known = {_SAME.get(name, name) for name in said}
    return next((name for name in SEVERITIES if name in known), DEFAULT)
