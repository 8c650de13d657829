"""Show the settings in effect: every value, whether it is a default, and no secret."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from remediator.audit import Redactor
from remediator.core.clock import format_duration

HIDDEN = "(hidden)"
_SECRET_NAME = re.compile(
    r"(password|passwd|secret|token|api_?key|routing_key|credential|authorization)$", re.IGNORECASE
)
"""Keys whose values are hidden. Keys that end with ``_file`` hold paths, which are not secret."""
_URL_PASSWORD = re.compile(r"(://[^/@:\s]*:)[^@/\s]+@")


@dataclass(frozen=True, slots=True)
class Setting:
    """A value, or a group of settings."""

    value: Any
    """A plain value, or a mapping or list of settings."""
    is_default: bool


def redacted(model: BaseModel, redactor: Redactor) -> Setting:
    """Return the settings of a model, with defaults marked and secrets hidden."""
    return _setting(model, False, redactor, "")


def _setting(value: Any, is_default: bool, redactor: Redactor, name: str) -> Setting:
    if isinstance(value, BaseModel):
        fields = {
            info.alias or key: _setting(
                getattr(value, key), is_default or key not in value.model_fields_set, redactor, key
            )
            for key, info in type(value).model_fields.items()
        }
        extra = {key: _setting(item, False, redactor, key) for key, item in (value.model_extra or {}).items()}
        return Setting(fields | extra, is_default)
    if isinstance(value, Mapping):
        hide = name == "headers"  # the values of these keys are often credentials
        return Setting(
            {
                str(key): Setting(HIDDEN, False) if hide else _setting(item, is_default, redactor, str(key))
                for key, item in value.items()
            },
            is_default,
        )
    if isinstance(value, list | tuple):
        return Setting([_setting(item, is_default, redactor, name) for item in value], is_default)
    if isinstance(value, timedelta):
        value = format_duration(value)
    elif isinstance(value, Path):
        value = str(value)
    elif isinstance(value, str) and value:
        value = HIDDEN if _SECRET_NAME.search(name) else _URL_PASSWORD.sub(rf"\1{HIDDEN}@", redactor.text(value))
    return Setting(value, is_default)


def as_data(setting: Setting, *, defaults: bool) -> Any:
    """Return the plain values; without ``defaults``, omit default values."""
    if isinstance(setting.value, Mapping):
        chosen = {key: item for key, item in setting.value.items() if defaults or not item.is_default}
        return {key: as_data(item, defaults=defaults) for key, item in chosen.items()}
    if isinstance(setting.value, list):
        return [as_data(item, defaults=defaults) for item in setting.value]
    return setting.value


def lines(setting: Setting, *, defaults: bool, indent: str = "") -> Iterator[str]:
    """Yield the settings as lines of YAML, each default with a comment."""
    for key, item in setting.value.items():
        if item.is_default and not defaults:
            continue
        mark = "  # default" if item.is_default else ""
        if isinstance(item.value, Mapping) and item.value:
            yield f"{indent}{_key(key)}:"
            yield from lines(item, defaults=defaults, indent=f"{indent}  ")
        elif item.value is None:
            yield f"{indent}# {_key(key)}: not set"
        else:
            yield f"{indent}{_key(key)}: {json.dumps(as_data(item, defaults=True), ensure_ascii=False)}{mark}"


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.-]*", name) else json.dumps(name)
