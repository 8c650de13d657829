"""Which secrets this installation knows, so that they can be cut out of whatever leaves it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from remediator.audit import Redactor

_FILES = ("password_file", "token_file", "url_file", "key_file", "secret_file", "webhook_url_file")


def redactor_for(*models: BaseModel) -> Redactor:
    """A redactor that knows every secret whose file the settings or the inventory name."""
    return Redactor(sorted({secret for model in models for secret in secrets_of(model)}))


def secrets_of(value: Any) -> Iterator[str]:
    """The contents of all secret files that are named anywhere in a model."""
    if isinstance(value, BaseModel):
        items = {**{name: getattr(value, name) for name in type(value).model_fields}, **(value.model_extra or {})}
        yield from _of_mapping(items)
    elif isinstance(value, Mapping):
        yield from _of_mapping(value)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from secrets_of(item)


def _of_mapping(items: Mapping[Any, Any]) -> Iterable[str]:
    for name, item in items.items():
        if name in _FILES and isinstance(item, Path | str):
            yield from _read(Path(item))
        elif name == "header_files" and isinstance(item, Mapping):
            for path in item.values():
                yield from _read(Path(path))
        else:
            yield from secrets_of(item)


def _read(path: Path) -> Iterator[str]:
    with suppress(OSError, UnicodeDecodeError):  # whoever needs it says what is wrong with it
        yield path.read_text(encoding="utf-8").strip()
