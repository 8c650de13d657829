"""Missing rights are reported for the actions that playbooks use, on their targets."""

from __future__ import annotations

from typing import Any

from remediator.errors import TargetError
from remediator.extensions.clientset import ClientSet
from remediator.extensions.platforms.kubernetes import KubernetesPlatform
from remediator.extensions.registry import Registry
from remediator.playbooks.inventory import Inventory, Service
from remediator.playbooks.model import Playbook
from remediator.runtime.preflight import Capabilities, RightsProblem, find_missing_rights

ACCOUNT = {"kind": "kubernetes", "namespace": "shop"}
INVENTORY = Inventory.model_validate(
    {
        "apiVersion": "remediator/v1",
        "kind": "Inventory",
        "services": {
            "app": {"platform": {**ACCOUNT, "deployment": "app"}},
            "redis": {"platform": {**ACCOUNT, "deployment": "redis"}},
        },
    }
)


class Account(KubernetesPlatform):
    """An account that may not roll back, and whose cluster does not answer for Redis."""

    async def missing_rights(self, service: Service, action: str) -> tuple[str, ...]:
        if service.name == "redis":
            raise TargetError("the cluster does not answer")
        return ("patch deployments/app",) if action == "service.rollback" else ()


def playbook(target: str, action: str) -> Playbook:
    """Return a playbook with one step."""
    body: dict[str, Any] = {
        "apiVersion": "remediator/v1",
        "kind": "Playbook",
        "name": f"{target}-down",
        "match": {"alertname": "Down"},
        "target": target,
        "diagnose": [{"id": "logs", "action": "service.logs"}],
        "steps": [{"id": "one", "action": action}],
    }
    return Playbook.model_validate(body)


async def test_what_is_missing_and_what_is_unknown_is_reported() -> None:
    """Only actions that a playbook uses on a target are checked."""
    books = (playbook("app", "service.rollback"), playbook("redis", "service.restart"))
    registry, clients = Registry(), ClientSet()
    capabilities = Capabilities(
        {"kubernetes": Account()}, registry.make_actions(clients), registry.make_checks(clients)
    )
    found = await find_missing_rights(books, INVENTORY, capabilities)
    assert found == [
        RightsProblem("app", "service.rollback", "missing: patch deployments/app"),
        RightsProblem("redis", "service.logs", "unknown: the cluster does not answer", known=False),
        RightsProblem("redis", "service.restart", "unknown: the cluster does not answer", known=False),
    ]
