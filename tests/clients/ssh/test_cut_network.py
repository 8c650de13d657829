"""A call to a host in a network namespace whose virtual cable is cut during the call."""

from __future__ import annotations

import asyncio
import secrets
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from demo.fleet.simulated_hosts import SimulatedHosts
from remediator.clients.ssh.client import CallState
from remediator.core.attempt_calls import in_attempt
from remediator.errors import Refused, TimedOut, Unreachable
from tests.clients.ssh.test_client import begun, restart, settled
from tests.support.servers import until
from tests.support.servers.ssh_hosts import UNIT, MakeHosts, client

pytestmark = [pytest.mark.promise(3)]


@dataclass(frozen=True)
class Network:
    """A network namespace with one virtual cable."""

    name: str
    cable: str

    def set(self, state: str) -> None:
        """Set the cable ``down`` or ``up``."""
        subprocess.run(["ip", "link", "set", self.cable, state], check=True)


@pytest.fixture
def network() -> Iterator[Network]:
    """Create a namespace with the address 10.213.77.2. The near end of the cable is 10.213.77.1."""
    word = secrets.token_hex(3)
    made = Network(f"remediator-{word}", f"rm{word}")
    commands = [
        f"ip netns add {made.name}",
        f"ip link add {made.cable} type veth peer name in{word}",
        f"ip link set in{word} netns {made.name}",
        f"ip addr add 10.213.77.1/30 dev {made.cable}",
        f"ip link set {made.cable} up",
        f"ip netns exec {made.name} ip addr add 10.213.77.2/30 dev in{word}",
        f"ip netns exec {made.name} ip link set in{word} up",
    ]
    try:
        for command in commands:
            try:
                subprocess.run(command.split(), check=True, capture_output=True)
            except (OSError, subprocess.CalledProcessError) as error:
                pytest.skip(f"needs the right to create network namespaces: {error}")
        yield made
    finally:
        subprocess.run(["ip", "link", "del", made.cable], capture_output=True)
        subprocess.run(["ip", "netns", "del", made.name], capture_output=True)


@pytest.fixture
def far(make_hosts: MakeHosts, network: Network) -> SimulatedHosts:
    """Return a host at the far end of the cable."""
    prefix = ("ip", "netns", "exec", network.name)
    return make_hosts("far", ["web-1"], addresses=["10.213.77.2"], prefix=prefix)


@pytest.mark.long
async def test_a_network_cut_during_a_call_is_unknown_and_then_confirmed(far: SimulatedHosts, network: Network) -> None:
    """After the cut, the outcome is unknown. When the network returns, the host reports that it made the call once."""
    host, hold = client(far, "web-1", connect_timeout="2s"), far.place("web-1") / "hold"
    hold.touch()
    call = asyncio.create_task(restart(host, seconds=3.0))
    await begun(far)
    network.set("down")
    hold.unlink()
    with pytest.raises(TimedOut):
        await call
    await asyncio.to_thread(until, lambda: len(far.calls("web-1")) == 2, "the restart ended")
    with in_attempt("attempt-1"), pytest.raises(Unreachable, match="nothing was sent"):
        await host.settle()

    network.set("up")
    assert await reached(host) == [CallState.FINISHED]
    assert far.calls("web-1") == [f"begun {UNIT}", f"done {UNIT}"]


@pytest.mark.long
async def test_a_network_cut_before_the_call_sends_nothing(far: SimulatedHosts, network: Network) -> None:
    """Even with an open shared connection, the client sends nothing before the host's greeting."""
    host = client(far, "web-1", connect_timeout="2s")
    await host.read("describe")
    network.set("down")
    with pytest.raises(Unreachable, match="nothing was sent"):
        await restart(host)

    network.set("up")
    assert await reached(host) == []
    with pytest.raises(Refused, match="was closed"):
        await restart(host)
    assert far.calls("web-1") == []


async def reached(host: object) -> list[CallState]:
    """Return the host's record of the attempt as soon as the host can be reached again."""
    for _ in range(20):
        try:
            return await settled(host)  # type: ignore[arg-type]
        except Unreachable:
            await asyncio.sleep(1)
    raise AssertionError("the host cannot be reached again")
