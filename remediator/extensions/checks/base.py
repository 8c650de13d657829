"""Checks: what is true now. They only look, and they tell apart "no" from "cannot tell"."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, ClassVar

from remediator.extensions.clientset import ClientSet
from remediator.extensions.parameters import Parameters
from remediator.playbooks.inventory import Service


class CheckAnswer(StrEnum):
    """What a check says."""

    OK = "ok"
    FAIL = "fail"
    UNKNOWN = "unknown"
    """Could not be seen: no data, no connection to the witness. Never the same as "no"."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was seen, in one sentence and as values."""

    answer: CheckAnswer
    summary: str
    facts: Mapping[str, Any] = field(default_factory=dict)


class Check(ABC):
    """One kind of look. ``Parameters`` is the model of its ``with`` block."""

    name: ClassVar[str]
    Parameters: ClassVar[type[Parameters]] = Parameters
    uses_prometheus: ClassVar[bool] = False
    """Whether it can say nothing without one; lint looks at this."""

    def __init__(self, world: ClientSet) -> None:
        """Keep the clients that it needs, never state."""

    @abstractmethod
    async def observe(self, service: Service, parameters: Any) -> Evidence:
        """Look once. Does not raise for what it finds or cannot find; that is the answer."""
