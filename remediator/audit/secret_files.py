"""The secret files that a model names, found by their type."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from remediator.core.local_files import read_text
from remediator.core.types import SecretContent


def secret_files(value: Any) -> Iterator[Path]:
    """Return the paths of all secret files in a model: of the fields with the type
    :data:`~remediator.core.types.SecretFile`, wherever they are."""
    if isinstance(value, BaseModel):
        for name, secret in _fields_of(type(value)):
            item = getattr(value, name)
            yield from _paths_in(item) if secret else secret_files(item)
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from secret_files(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from secret_files(item)


@cache  # an inventory has thousands of models of few types
def _fields_of(model: type[BaseModel]) -> tuple[tuple[str, bool], ...]:
    """Return the names of the fields, and whether each one is secret."""
    return tuple((name, is_secret(about)) for name, about in model.model_fields.items())


def is_secret(about: FieldInfo) -> bool:
    """Return whether a field names files whose content is a secret."""
    return any(isinstance(item, SecretContent) for item in (*about.metadata, *_markers(about.annotation)))


def _markers(annotation: Any) -> Iterator[Any]:
    """Return everything that annotates a type or its arguments: the marker of ``dict[str, SecretFile]`` is inside."""
    yield from getattr(annotation, "__metadata__", ())
    for inner in get_args(annotation):
        yield from _markers(inner)


def _paths_in(value: Any) -> Iterator[Path]:
    if isinstance(value, Path | str):
        yield Path(value)
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _paths_in(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _paths_in(item)


_PEM_CERTIFICATE = "-----BEGIN CERTIFICATE-----"


def read_secrets(path: Path) -> Iterator[str]:
    """Return the content of a file, and each of its lines: a file of keys has one key a line."""
    with suppress(OSError, UnicodeDecodeError):  # the code that needs the secret reports the error
        text = read_text(path).strip()
        if text.startswith(_PEM_CERTIFICATE):
            return
        yield text
        yield from (line.strip() for line in text.splitlines() if len(line.strip()) >= _SECRET_LINE)


_SECRET_LINE = 12
"""Shorter lines of a file with several lines are not searched for: they may be ordinary words."""
