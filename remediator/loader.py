"""Reading YAML: what, where and how to mend it; all errors at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from remediator.errors import ConfigurationError
from remediator.inventory import Inventory
from remediator.playbook import Playbook

M = TypeVar("M", bound=BaseModel)


class Catalogue(Protocol):
    """What playbooks may name."""

    @property
    def actions(self) -> Any: ...
    @property
    def checks(self) -> Any: ...
    @property
    def guards(self) -> Any: ...


@dataclass(frozen=True, slots=True)
class Loaded:
    """Playbooks and inventory that passed every check."""

    playbooks: tuple[Playbook, ...]
    inventory: Inventory


def read(path: Path, model: type[M]) -> M:
    """A YAML file as a model.

    Raises:
        ConfigurationError: with every reason.
    """
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigurationError(f"{path}: cannot be read: {error}") from None
    try:
        return model.model_validate(data, context={"base": path.parent.resolve()})
    except ValidationError as error:
        findings = tuple(f"{path}: {'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
        raise ConfigurationError(f"{path} cannot be used:", findings) from None


def load_config(path: Path, model: type[M]) -> M:
    """The settings file."""
    return read(path, model)


def load(paths: Sequence[Path], inventory: Path, catalogue: Catalogue) -> Loaded:
    """Playbooks from files and folders, checked against the inventory and what there is to name."""
    known = read(inventory, Inventory)
    playbooks = [read(path, Playbook) for path in _files(paths)]
    findings = [finding for playbook in playbooks for finding in _check(playbook, catalogue)]
    if findings:
        raise ConfigurationError("playbooks cannot be used:", tuple(findings))
    return Loaded(tuple(playbooks), known)


def _files(paths: Sequence[Path]) -> Iterable[Path]:
    for path in paths:
        if path.is_dir():
            yield from sorted(item for item in path.glob("*.yaml") if not item.name.endswith(".test.yaml"))
        else:
            yield path


def _check(playbook: Playbook, catalogue: Catalogue) -> Iterable[str]:
    for step in playbook.steps:
        if step.action not in catalogue.actions:
            yield f"{playbook.name}: step {step.id}: there is no action {step.action!r}"
    for check in playbook.verify.checks:
        if check.check not in catalogue.checks:
            yield f"{playbook.name}: verify: there is no check {check.check!r}"
