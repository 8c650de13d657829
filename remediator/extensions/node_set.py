"""The nodes of a service: which may be changed, and how many of them may be cordoned at once."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import dataclass

from pydantic import Field

from remediator.clients.kubernetes.client import KubernetesRefused
from remediator.clients.kubernetes.conflicts import repeat_on_conflict
from remediator.clients.kubernetes.kubeconfig import access
from remediator.clients.kubernetes.nodes import Node, Nodes
from remediator.errors import TargetError
from remediator.extensions.parameters import Parameters
from remediator.playbooks.inventory import Service
from remediator.playbooks.platform_bindings import KubernetesNodesBinding


class NodeParameters(Parameters):
    """The node of an action."""

    node: str = Field(
        pattern=r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$",
        description="Name of the node. The inventory must allow it, so it may come from a label of the alert.",
    )


@dataclass(frozen=True, slots=True)
class NodeSet:
    """The nodes that the inventory allows for a service."""

    service: str
    binding: KubernetesNodesBinding

    @classmethod
    def of(cls, service: Service) -> NodeSet:
        """Return the nodes of a service.

        Raises:
            TargetError: it is no set of nodes.
        """
        if not isinstance(service.platform, KubernetesNodesBinding):
            raise TargetError(f"{service.name} is not a set of nodes; its platform is {service.platform.kind}")
        return cls(service.name, service.platform)

    def connected(self) -> AbstractAsyncContextManager[Nodes]:
        """Provide a client of the cluster.

        Raises:
            TargetError: the kubeconfig or the service account cannot be used.
        """
        return aclosing(Nodes(access(self.binding)))

    async def all(self, client: Nodes) -> tuple[Node, ...]:
        """Return the nodes that exist, by name."""
        found = (each for each in await client.nodes() if self.binding.allows(each.metadata.name))
        return tuple(sorted(found, key=lambda each: each.metadata.name))

    async def one(self, client: Nodes, name: str) -> Node:
        """Return one node.

        Raises:
            TargetError: the inventory does not allow it, or it does not exist.
        """
        if not self.binding.allows(name):
            allowed = ", ".join(self.binding.nodes)
            raise TargetError(f"the inventory does not allow node {name!r} for {self.service}; allowed: {allowed}")
        try:
            return await client.node(name)
        except KubernetesRefused as error:
            if error.status != 404:
                raise
            raise TargetError(f"node {name} does not exist") from None

    def check_may_cordon(self, node: Node, nodes: Sequence[Node], run: str) -> None:
        """Check that a node may be cordoned for a run now.

        Raises:
            TargetError: another run, a program or a person cordoned it, or too many nodes are cordoned.
        """
        name, limit = node.metadata.name, self.binding.max_cordoned
        if node.cordoned and not node.cordoned_by:
            raise TargetError(f"node {name} is cordoned, and not by the remediator; someone may be working on it")
        if node.cordoned and run and node.cordoned_by != run:
            raise TargetError(f"node {name} is cordoned by run {node.cordoned_by}; uncordon it first")
        others = [each.metadata.name for each in nodes if each.cordoned and each.metadata.name != name]
        if len(others) >= limit:
            raise TargetError(
                f"{len(others)} of the nodes of {self.service} are cordoned ({', '.join(others)}), and max_cordoned is "
                f"{limit}; node {name} was not cordoned"
            )

    async def cordon(self, client: Nodes, name: str, uid: str, run: str) -> None:
        """Cordon a node for a run, unless it is cordoned for it already.

        The order defends the limit: read all nodes, compare UID and limit, then send the version of the node that was
        read.

        Raises:
            TargetError: it is another node than planned, or must not be cordoned now; nothing was changed.
        """

        async def once() -> None:
            node = await self._planned(client, name, uid)
            self.check_may_cordon(node, await self.all(client), run)
            if not node.cordoned:
                await client.set_cordoned(node, run or "unknown")

        await repeat_on_conflict(once)

    async def uncordon(self, client: Nodes, name: str, uid: str) -> None:
        """Uncordon a node that the remediator cordoned.

        Raises:
            TargetError: it is another node than planned, or someone else cordoned it; nothing was changed.
        """

        async def once() -> None:
            node = await self._planned(client, name, uid)
            check_may_uncordon(node)
            await client.set_cordoned(node, None)

        await repeat_on_conflict(once)

    async def _planned(self, client: Nodes, name: str, uid: str) -> Node:
        """Return the node of the plan, unless it was replaced by another node with its name."""
        node = await self.one(client, name)
        if node.metadata.uid != uid:
            raise TargetError(f"node {name} was replaced after planning; nothing was changed")
        return node


def check_may_uncordon(node: Node) -> None:
    """Check that a node is cordoned, and by the remediator.

    Raises:
        TargetError: it is not.
    """
    name = node.metadata.name
    if not node.cordoned:
        raise TargetError(f"node {name} is not cordoned")
    if not node.cordoned_by:
        raise TargetError(
            f"node {name} is cordoned, and not by the remediator; the person who cordoned it must uncordon it: "
            f"kubectl uncordon {name}"
        )
