"""Read alerting rules from Prometheus rule files and PrometheusRule objects: names, expressions and labels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from remediator.authoring.lint import AlertRule


@dataclass(frozen=True, slots=True)
class RuleFiles:
    """The alerting rules of rule files and folders."""

    alerts: Sequence[AlertRule] = ()
    unreadable: Sequence[tuple[str, int, str]] = ()
    """The files that cannot be read: name, line (0 for the file as a whole) and reason."""
    files: int = 0


def read_alerts(paths: Iterable[Path]) -> RuleFiles:
    """Return every alerting rule in rule files and folders. Files without rules are skipped.

    A file may have several documents. A document is a rule file of Prometheus, or a PrometheusRule of Kubernetes, also
    in a List.
    """
    alerts: list[AlertRule] = []
    unreadable: list[tuple[str, int, str]] = []
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            files += sorted(item for item in path.rglob("*") if item.suffix in (".yml", ".yaml") and item.is_file())
        else:
            files.append(path)
    for file in files:
        try:
            found = []
            for document in yaml.safe_load_all(file.read_text(encoding="utf-8")):
                for content in (document, *_list(document, "items")):
                    spec = content.get("spec") if isinstance(content, dict) else None
                    for group in _list(content, "groups") + _list(spec, "groups"):
                        found += [rule for item in _list(group, "rules") if (rule := _alert(item, file)) is not None]
            alerts += found
        except (OSError, UnicodeDecodeError) as error:
            unreadable.append((str(file), 0, str(error)))
        except yaml.YAMLError as error:
            unreadable.append(_not_yaml(file, error))
    return RuleFiles(tuple(alerts), tuple(unreadable), len(files))


def _not_yaml(file: Path, error: yaml.YAMLError) -> tuple[str, int, str]:
    mark = getattr(error, "problem_mark", None)
    line = 0 if mark is None else mark.line + 1
    if "{{-" in file.read_text(encoding="utf-8", errors="replace"):
        return (str(file), line, "it is a template, for example of Helm, and not YAML")
    return (str(file), line, f"it is not YAML: {getattr(error, 'problem', None) or error}")


def _alert(item: Any, file: Path) -> AlertRule | None:
    if not isinstance(item, dict) or not isinstance(item.get("alert"), str):
        return None
    labels = item.get("labels")
    named = {str(name): str(value) for name, value in labels.items()} if isinstance(labels, dict) else {}
    return AlertRule(item["alert"], str(item.get("expr", "")), named, str(file))


def _list(value: Any, key: str) -> list[Any]:
    found = value.get(key) if isinstance(value, dict) else None
    return found if isinstance(found, list) else []
