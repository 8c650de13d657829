"""The contract of checks. A check changes nothing, and its answer separates *fail* from *unknown*."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, ClassVar

from remediator.errors import RemediatorError
from remediator.extensions.clientset import ClientSet
from remediator.extensions.parameters import Parameters
from remediator.playbooks.catalogue import DeclaredCalls
from remediator.playbooks.facts import Fact
from remediator.playbooks.inventory import Service


class CheckAnswer(StrEnum):
    """The answer of a check."""

    OK = "ok"
    FAIL = "fail"
    UNKNOWN = "unknown"
    """No data or no connection to the source. Never the same as *fail*."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """The result of a check, with a summary for people and values for programs."""

    answer: CheckAnswer
    summary: str
    facts: Mapping[str, Any] = field(default_factory=dict)


class Check(ABC):
    """Base class of checks. ``Parameters`` is the model of the ``with`` block."""

    name: ClassVar[str]
    Parameters: ClassVar[type[Parameters]] = Parameters
    facts: ClassVar[tuple[Fact, ...]] = ()
    """The facts of its evidence. Lint checks conditions against these facts; without facts, it checks no conditions."""
    needs: ClassVar[tuple[str, ...]] = ()
    """Parts that the inventory entry of a service must have, such as ``redis``.

    Without them, the answer is always unknown.
    """
    uses_prometheus: ClassVar[bool] = False
    """Whether the check needs Prometheus. Lint reports the check if the settings name no Prometheus."""

    def __init__(self, clients: ClientSet) -> None:
        """Keep the clients of the service."""
        self.clients = clients

    @classmethod
    def declared_calls(cls, clients: ClientSet) -> DeclaredCalls | None:
        """Return the declared calls of the settings, for a check that runs a command by name. Default: None."""
        return None

    @abstractmethod
    async def observe(self, service: Service, parameters: Any) -> Evidence:
        """Check once. An invisible state is *unknown*: an error of the clients counts as this, with its text."""

    async def ask(self, service: Service, parameters: Any) -> Evidence:
        """Observe, and return *unknown* with the reason instead of raising an error."""
        try:
            return await self.observe(service, parameters)
        except (RemediatorError, OSError, ValueError) as error:
            return Evidence(CheckAnswer.UNKNOWN, f"{self.name}: {error}")

    async def missing_rights(self, service: Service) -> tuple[str, ...]:
        """Return the rights that this check lacks on a server of the service, as text. Changes nothing.

        :class:`Platform` returns the rights on the platform. Default: no known missing rights.

        Raises:
            ClientError: the server does not report rights.
        """
        return ()
