"""The contract of a doctor check: one subject, such as the store, and the fix for each problem with it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import ClassVar

from remediator.authoring.rehearsal import example_labels
from remediator.config import Config
from remediator.core.identity import People
from remediator.extensions.registry import Registry
from remediator.playbooks.loader import LoadedConfig
from remediator.playbooks.model import Playbook


class Level(StrEnum):
    """How bad a result is."""

    OK = "ok"
    SKIPPED = "skipped"
    """Not examined: the settings do not use it."""
    WARNING = "warning"
    """It works, and something can go wrong later."""
    FAILED = "failed"
    """Something does not work now."""


@dataclass(frozen=True, slots=True)
class Result:
    """One line of the table."""

    level: Level
    subject: str
    """The examined subject, for example the URL of a server or the name of a service."""
    text: str
    fix: str = ""
    """The next action; empty if no action is needed."""


@dataclass(frozen=True, slots=True)
class Examination:
    """The subjects of the checks."""

    config_path: Path
    config: Config
    registry: Registry
    loaded: LoadedConfig
    people: People
    now: datetime
    send: bool = False
    """Whether to send a test message to each channel."""
    labels: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Example labels of an alert, by playbook."""

    @property
    def playbooks(self) -> tuple[Playbook, ...]:
        """Return the playbooks that can be used."""
        return self.loaded.playbooks


def labels_of(loaded: LoadedConfig) -> dict[str, Mapping[str, str]]:
    """Return example labels of an alert for each playbook."""
    return {playbook.name: example_labels(playbook, loaded.inventory) for playbook in loaded.playbooks}


class DoctorCheck(ABC):
    """Base class. A check only reads; only with ``send`` it sends messages. It yields at least one result."""

    name: ClassVar[str]
    """Its name in the table."""

    @abstractmethod
    def run(self, about: Examination) -> AsyncIterator[Result]:
        """Yield the results. An error of the project becomes a failed result of this check."""


def ok(subject: str, text: str) -> Result:
    """Return a result without a problem."""
    return Result(Level.OK, subject, text)


def skipped(subject: str, text: str) -> Result:
    """Return a result for a subject that was not examined."""
    return Result(Level.SKIPPED, subject, text)


def warning(subject: str, text: str, fix: str) -> Result:
    """Return a result about something that can go wrong later."""
    return Result(Level.WARNING, subject, text, fix)


def failed(subject: str, text: str, fix: str) -> Result:
    """Return a result about something that does not work."""
    return Result(Level.FAILED, subject, text, fix)
