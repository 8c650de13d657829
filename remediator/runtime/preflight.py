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

log: Any = structlog.get_logger("remediator.runtime.preflight")


@dataclass(frozen=True, slots=True)
class RightsProblem:
    """What the remediator may not do on one service."""

    service: str
    action: str
    text: str
    """The missing rights, or why they are unknown."""


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
    for name, action in sorted(set(_uses(playbooks, inventory))):
        service = inventory.service(name)
        try:
            missing = await platforms[service.platform.kind].missing_rights(service, action)
        except RemediatorError as error:
            problems.append(RightsProblem(name, action, f"unknown: {error}"))
            continue
        if missing:
            problems.append(RightsProblem(name, action, f"missing: {', '.join(missing)}"))
    return problems


def _uses(playbooks: tuple[Playbook, ...], inventory: Inventory) -> Iterator[tuple[str, str]]:
    for playbook in playbooks:
        targets = [playbook.target] if playbook.target in inventory else list(inventory.services)
        used = {step.action for step in playbook.steps} | {item.action for item in playbook.diagnose if item.action}
        yield from ((target, action) for target in targets for action in used)


async def report_missing_rights(
    playbooks: tuple[Playbook, ...], inventory: Inventory, platforms: Mapping[str, Platform]
) -> None:
    """Log each missing right once, at the start of the service."""
    for problem in await find_missing_rights(playbooks, inventory, platforms):
        log.warning("rights not sufficient", service=problem.service, action=problem.action, rights=problem.text)
