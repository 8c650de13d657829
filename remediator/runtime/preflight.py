"""Find rights that are missing before an incident needs them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from remediator.errors import RemediatorError
from remediator.extensions.platforms.base import Platform
from remediator.playbooks.inventory import Inventory
from remediator.playbooks.model import Playbook
from remediator.playbooks.parsing.nodes import Path

log: Any = structlog.get_logger("remediator.runtime.preflight")


@dataclass(frozen=True, slots=True)
class RightsProblem:
    """What the remediator may not do on one service."""

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


async def find_missing_rights(
    playbooks: tuple[Playbook, ...], inventory: Inventory, platforms: Mapping[str, Platform]
) -> list[RightsProblem]:
    """Ask the platforms for the rights that the actions of the playbooks need. Changes nothing.

    Args:
        playbooks: their diagnosis and steps are checked on their target.
        inventory: the services.
        platforms: the platforms, by their kind.
    """
    problems = []
    found = {
        (service, each.name)
        for playbook in playbooks
        for each in uses(playbook, inventory)
        if each.kind == "action"
        for service in each.services
    }
    for name, action in sorted(found):
        service = inventory.service(name)
        try:
            missing = await platforms[service.platform.kind].missing_rights(service, action)
        except RemediatorError as error:
            problems.append(RightsProblem(name, action, f"unknown: {error}", known=False))
            continue
        if missing:
            problems.append(RightsProblem(name, action, f"missing: {', '.join(missing)}"))
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
    playbooks: tuple[Playbook, ...], inventory: Inventory, platforms: Mapping[str, Platform]
) -> None:
    """Log each missing right once, at the start of the service."""
    for problem in await find_missing_rights(playbooks, inventory, platforms):
        log.warning("rights not sufficient", service=problem.service, action=problem.action, rights=problem.text)
