"""Read alerting rules from Prometheus rule files: names, expressions and labels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml

from remediator.authoring.lint import AlertRule
from remediator.errors import ConfigurationError


def read_alerts(paths: Iterable[Path]) -> tuple[AlertRule, ...]:
    """Return every alerting rule in rule files and folders. Files without rules are skipped.

    Raises:
        ConfigurationError: a file cannot be read, or is not YAML.
    """
    return tuple(rule for path in paths for file in _files(path) for rule in _rules(file))


def _files(path: Path) -> Iterator[Path]:
    if path.is_dir():
        yield from sorted(item for item in path.rglob("*") if item.suffix in (".yml", ".yaml") and item.is_file())
    else:
        yield path


def _rules(file: Path) -> Iterator[AlertRule]:
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigurationError(f"{file}: cannot read the rule file: {error}") from None
    for group in _list(content, "groups"):
        for rule in _list(group, "rules"):
            if isinstance(rule, dict) and isinstance(rule.get("alert"), str):
                labels = rule.get("labels")
                named = {str(name): str(value) for name, value in labels.items()} if isinstance(labels, dict) else {}
                yield AlertRule(rule["alert"], str(rule.get("expr", "")), named, str(file))


def _list(value: Any, key: str) -> list[Any]:
    found = value.get(key) if isinstance(value, dict) else None
    return found if isinstance(found, list) else []
