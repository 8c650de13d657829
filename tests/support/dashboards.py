"""The dashboards for any Grafana, ``deploy/grafana``: ``python -m tests.support.dashboards`` writes them.

Compose provisions dashboards with a fixed data source. When a person imports a dashboard, Grafana asks for the data
source that ``__inputs`` declares. So each dashboard has two forms, and this module makes the second form from the
first.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PROVISIONED = ROOT / "deploy/compose/grafana/dashboards"
FOLDER = ROOT / "deploy/grafana"
_INPUT = "DS_PROMETHEUS"


def importable(path: Path) -> str:
    """Return a provisioned dashboard in the form for an import."""
    made = _with_input(json.loads(path.read_text(encoding="utf-8")))
    about = {"name": _INPUT, "label": "Prometheus", "type": "datasource", "pluginId": "prometheus"}
    about |= {"pluginName": "Prometheus", "description": "The Prometheus that scrapes remediator and its services."}
    requires = [{"type": "datasource", "id": "prometheus", "name": "Prometheus", "version": "1.0.0"}]
    return json.dumps({"__inputs": [about], "__requires": requires, "id": None, **made}, indent=2) + "\n"


def _with_input(value: Any) -> Any:
    if isinstance(value, dict):
        if value.get("type") == "prometheus" and "uid" in value:
            return {**value, "uid": f"${{{_INPUT}}}"}
        return {key: _with_input(item) for key, item in value.items()}
    return [_with_input(item) for item in value] if isinstance(value, list) else value


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for each in PROVISIONED.glob("*.json"):
        (FOLDER / each.name).write_text(importable(each), encoding="utf-8")
