"""Render a Helm chart without Helm, with gotpl: Go templates with the functions of Helm."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml
from gotpl.exts.helm import HelmTemplateEngine


class ChartFiles:
    """The object ``.Files`` of a template."""

    def __init__(self, chart: Path) -> None:
        self._chart = chart

    def Get(self, name: str) -> str:
        """Return the text of a file of the chart, empty if there is none, as Helm does."""
        path = self._chart / name
        return path.read_text(encoding="utf-8") if path.is_file() else ""


def merged(base: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Return values overridden by those of another file: mappings are merged, and null removes a key."""
    result = deepcopy(dict(base))
    for key, value in more.items():
        if isinstance(value, Mapping) and isinstance(result.get(key), Mapping):
            result[key] = merged(result[key], value)
        elif value is None:
            result.pop(key, None)
        else:
            result[key] = deepcopy(value)
    return result


def render(chart: Path, values: Mapping[str, Any], release: str = "remediator", namespace: str = "remediator") -> str:
    """Return all manifests of a chart, as ``helm template`` prints them.

    Raises:
        Exception: a template has an error, or a required value is missing.
    """
    about = yaml.safe_load((chart / "Chart.yaml").read_text(encoding="utf-8"))
    sources = {f"{about['name']}/templates/{path.name}": path.read_text(encoding="utf-8") for path in _templates(chart)}
    context = {
        "Values": merged(yaml.safe_load((chart / "values.yaml").read_text(encoding="utf-8")), values),
        "Release": {"Name": release, "Namespace": namespace, "Service": "Helm", "IsInstall": True, "Revision": 1},
        "Chart": {name[0].upper() + name[1:]: value for name, value in about.items()},
        "Files": ChartFiles(chart),
    }
    contexts = {
        name: {**context, "Template": {"Name": name, "BasePath": f"{about['name']}/templates"}}
        for name in sources
        if not name.endswith("_helpers.tpl")
    }
    made = HelmTemplateEngine.from_sources(sources).render(contexts)
    return "\n---\n".join(text for name, text in made.items() if not name.endswith("NOTES.txt"))


def objects(text: str) -> dict[tuple[str, str, str], dict[str, Any]]:
    """Return the objects of manifests by kind, namespace and name."""
    return {
        (item["kind"], item["metadata"].get("namespace", ""), item["metadata"]["name"]): item
        for item in yaml.safe_load_all(text)
        if item
    }


def _templates(chart: Path) -> Iterator[Path]:
    return (path for path in sorted((chart / "templates").iterdir()) if path.is_file())
