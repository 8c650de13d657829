"""Find rights that are missing before an incident needs them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from remediator.errors import RemediatorError
from remediator.extensions.actions.base import Action
from remediator.extensions.checks.base import Check
from remediator.extensions.platforms.base import Platform
from remediator.playbooks.inventory import Inventory, Service
from remediator.playbooks.model import Playbook
from remediator.playbooks.parsing.nodes import Path

log: Any = structlog.get_logger("remediator.runtime.preflight")


@dataclass(frozen=True, slots=True)
class RightsProblem:
    """The missing rights of the remediator on one service."""

    service: str
    action: str
    text: str
    """The missing rights, or why they are unknown."""
    known: bool = True
    """Whether the platform answered. If it did not, the rights may be sufficient."""


@dataclass(frozen=True, slots=True)
class Use:
    """One place of a playbook that uses an action or a check."""

    path: Path
    """Keys and positions from the root of the playbook."""
    services: tuple[str, ...]
    """The services that it can be used on: one, unless the target is a parameter."""
    kind: str
    """``action`` or ``check``."""
    name: str


@dataclass(frozen=True, slots=True)
class Capabilities:
    """The extensions that check rights: platforms by their kind, actions and checks by name."""

    platforms: Mapping[str, Platform]
    actions: Mapping[str, Action]
    checks: Mapping[str, Check]

    async def missing_rights(self, service: Service, kind: str, name: str) -> tuple[str, ...]:
        """Return the rights that an action or check lacks on the platform of a service, and on its server."""
        used = self.actions[name] if kind == "action" else self.checks[name]
        on_platform: tuple[str, ...] = ()
        if kind == "action":
            on_platform = await self.platforms[service.platform.kind].missing_rights(service, name)
        if any(getattr(service, part) is None for part in used.needs):  # lint reports this
            return on_platform
        return (*on_platform, *await used.missing_rights(service))


async def find_missing_rights(
    playbooks: tuple[Playbook, ...], inventory: Inventory, capabilities: Capabilities
) -> list[RightsProblem]:
    """Ask platforms and servers for the rights that the actions and checks of the playbooks need. Changes nothing.

    Args:
        playbooks: their diagnosis and steps are checked on their target.
        inventory: the services.
        capabilities: platforms, actions and checks.
    """
    problems = []
    found = {
        (service, each.kind, each.name)
        for playbook in playbooks
        for each in uses(playbook, inventory)
        for service in each.services
    }
    for name, kind, used in sorted(found):
        try:
            missing = await capabilities.missing_rights(inventory.service(name), kind, used)
        except RemediatorError as error:
            problems.append(RightsProblem(name, used, f"unknown: {error}", known=False))
            continue
        if missing:
            problems.append(RightsProblem(name, used, f"missing: {'; '.join(missing)}"))
    return problems


def uses(playbook: Playbook, inventory: Inventory) -> Iterator[Use]:
    """Yield every action and check of a playbook, each with the services that it can be used on."""
    by_parameter = playbook.target.startswith("${")
    targets = tuple(inventory.services) if by_parameter else (playbook.target,) if playbook.target in inventory else ()
    for at, item in enumerate(playbook.diagnose):
        kind, name = ("check", item.check) if item.check is not None else ("action", str(item.action))
        services = (str(item.service),) if item.service in inventory else targets
        yield Use(("diagnose", at, kind), services, kind, name)
    for at, step in enumerate(playbook.steps):
        yield Use(("steps", at, "action"), targets, "action", step.action)
        if step.undo is not None and step.undo.action is not None:
            yield Use(("steps", at, "undo", "action"), targets, "action", step.undo.action)
    for at, check in enumerate(playbook.verify.checks):
        yield Use(("verify", "checks", at, "check"), targets, "check", check.check)


async def report_missing_rights(
    playbooks: tuple[Playbook, ...], inventory: Inventory, capabilities: Capabilities
) -> None:
    """Log each missing right once, at the start of the service."""
    for problem in await find_missing_rights(playbooks, inventory, capabilities):
        log.warning("rights not sufficient", service=problem.service, action=problem.action, rights=problem.text)
