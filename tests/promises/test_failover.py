"""A failover of PostgreSQL under Patroni loses no acknowledged alert, repeats no action, and reports risks."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.error import URLError

import pytest

from tests.promises.conftest import MakeInstallation
from tests.support.replicas import CrashingRemediator, Installation, counted, rows
from tests.support.servers import until
from tests.support.servers.patroni import Cluster

pytestmark = [
    pytest.mark.soak,
    pytest.mark.promise(1),
    pytest.mark.promise(3),
    pytest.mark.skipif("FAILOVER_TARGETS" not in os.environ, reason="minutes a case: run `make failover`"),
]

TARGETS = int(os.environ.get("FAILOVER_TARGETS", "8"))


@contextmanager
def running(cluster: Cluster) -> Iterator[Cluster]:
    """Run a cluster with an empty database."""
    try:
        cluster.start()
        cluster.sql("CREATE DATABASE remediator")
        cluster.wait_for_replay()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture(params=["synchronous", "asynchronous"])
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """Return a running cluster with an empty database."""
    with running(Cluster(synchronous=request.param == "synchronous")) as made:
        yield made


def kill(cluster: Cluster) -> Callable[[], None]:
    """Kill the host of the primary. Return a function that starts it again."""
    lost = cluster.primary
    lost.kill()
    return lost.launch


def freeze(cluster: Cluster) -> Callable[[], None]:
    """Freeze the host of the primary. When it continues, the server believes that it is the primary and commits.

    Then the watchdog of the host restarts it, which Patroni needs for this case. Without a watchdog, Patroni 3.0 may
    make the old primary the leader again, and the other server can never follow it.
    """
    lost = cluster.primary
    lost.signal_all(signal.SIGSTOP)

    def bring_back() -> None:
        lost.continue_server()
        time.sleep(3)
        lost.kill()
        lost.launch()

    return bring_back


def switch(cluster: Cluster) -> Callable[[], None]:
    """Make the standby the primary by a planned switch-over."""
    cluster.switch_over()
    return lambda: None


class Sender(threading.Thread):
    """An Alertmanager for one target, which posts until it gets a 2xx."""

    def __init__(self, replicas: list[CrashingRemediator], target: str, number: int) -> None:
        super().__init__(daemon=True)
        self.replicas, self.target, self.number = replicas, target, number
        self.statuses: Counter[int] = Counter()
        self.stopped = threading.Event()

    def run(self) -> None:
        """Post the notification until it is acknowledged."""
        turn = self.number
        while not self.stopped.is_set():
            replica = self.replicas[turn % len(self.replicas)]
            body = replica.notification("firing", alertname="TargetDown", service=self.target)
            try:
                status = replica.post(body)[0]
            except (URLError, OSError, TimeoutError):
                status = 0
            self.statuses[status] += 1
            if status == 200:
                return
            turn += 1
            self.stopped.wait(0.3)


def open_installation(
    cluster: Cluster, make_installation: MakeInstallation, through: str
) -> tuple[Installation, list[CrashingRemediator]]:
    """Start two replicas on the database of the cluster."""
    installation = make_installation(targets=TARGETS, store=cluster.url("remediator", through=through))
    replicas = [installation.replica() for _ in range(2)]
    for replica in replicas:
        replica.start()
    return installation, replicas


@pytest.mark.parametrize("lose", [kill, freeze, switch])
@pytest.mark.parametrize("through", ["haproxy", "hosts"])
def test_no_action_is_repeated_and_nothing_acknowledged_is_lost(
    cluster: Cluster, make_installation: MakeInstallation, lose: Callable[[Cluster], Callable[[], None]], through: str
) -> None:
    """With alerts before, during and after the loss of the primary, no alert is lost and no action repeated."""
    installation, replicas = open_installation(cluster, make_installation, through)
    before = cluster.primary
    senders = [Sender(replicas, target, number) for number, target in enumerate(installation.targets)]
    for sender in senders[: TARGETS // 2]:
        sender.start()
    until(lambda: any(sender.statuses[200] for sender in senders), "the first alert is acknowledged")
    bring_back = lose(cluster)
    for sender in senders[TARGETS // 2 :]:
        sender.start()
    until(lambda: cluster.has_failed_over(before), "failover")
    bring_back()
    for sender in senders:
        sender.join(120)
    assert all(sender.statuses[200] == 1 for sender in senders), [sender.statuses for sender in senders]
    if not cluster.synchronous:  # the last acknowledged alerts may be lost; Alertmanager repeats alerts that still fire
        for target in installation.targets:
            assert replicas[0].tell(target, tries=50)
    until(cluster.leads_to_the_primary, "HAProxy sends connections to the new primary")
    url = cluster.url("remediator", through="haproxy")
    until(lambda: not (set(installation.targets) - settled(url)), "each target has a run that is settled", 180)
    starts = {target: installation.starts(target) for target in installation.targets}
    asked = asked_about_loss(url)
    assert cluster.synchronous is False or not asked
    assert starts == {target: 1 if target in asked and starts[target] == 1 else 2 for target in installation.targets}
    assert counted(url, "SELECT count(*) FROM audit WHERE kind = 'store.replaced'") == 1
    until(lambda: all(replica.ready() for replica in replicas), "all replicas are ready again")


def test_actions_of_lost_commits_are_not_repeated(make_installation: MakeInstallation) -> None:
    """If the standby lags, records of restarts are lost in the failover, but the restarts are not repeated."""
    with running(Cluster(synchronous=False)) as cluster:
        installation, replicas = open_installation(cluster, make_installation, "haproxy")
        kept, lost = installation.targets[::2], installation.targets[1::2]
        for target in kept:
            assert replicas[0].tell(target)
        until(lambda: all(installation.starts(target) == 2 for target in kept), "the first half is restarted")
        url = cluster.url("remediator", through="haproxy")
        until(lambda: not (set(kept) - settled(url)), "the first half is healed")
        cluster.wait_for_replay()
        end_receiver = cluster.standby.stop_receiving()
        before = cluster.primary
        for target in lost:
            assert replicas[1].tell(target)
        until(lambda: all(installation.starts(target) == 2 for target in lost), "the second half is restarted")
        installation.fixed = lambda name: (
            name in kept
        )  # the restart did not help, so without its record it would be repeated
        before.kill()
        end_receiver()
        until(lambda: cluster.has_failed_over(before), "failover")
        until(cluster.leads_to_the_primary, "HAProxy sends connections to the new primary")
        assert counted(url, "SELECT count(DISTINCT target) FROM runs") == len(kept), "the standby did not lag"
        for target in installation.targets:
            assert replicas[0].tell(target, tries=200)
        until(lambda: asked_about_loss(url) == set(lost), "a person is asked about each lost run")
        assert {target: installation.starts(target) for target in installation.targets} == dict.fromkeys(
            installation.targets, 2
        )
        entries = rows(url, "SELECT canonical FROM audit WHERE kind = 'store.replaced'")
        assert [json.loads(bytes(entry))["data"]["lossless"] for (entry,) in entries] == [False]


def settled(url: str) -> set[str]:
    """Return the targets whose runs all succeeded, were not needed, or wait for a person."""
    statement = "SELECT target, status FROM runs WHERE mode = 'auto'"
    found = [tuple(row) for row in rows(url, statement)]
    open_ = {target for target, status in found if status not in ("succeeded", "cancelled", "awaiting_approval")}
    return {target for target, _ in found} - open_


def asked_about_loss(url: str) -> set[str]:
    """Return the targets where a person is asked because records of actions may be lost."""
    statement = (
        "SELECT target FROM runs WHERE status = 'awaiting_approval' AND detail::text LIKE '%lost its last commits%'"
    )
    return {target for (target,) in rows(url, statement)}


def test_a_server_without_a_synchronous_standby_is_reported(
    cluster: Cluster, make_installation: MakeInstallation
) -> None:
    """The service and the doctor report a missing synchronous standby, and only then."""
    installation, (replica, _) = open_installation(cluster, make_installation, "haproxy")
    del installation
    shown = replica.command_line("doctor").stdout
    if cluster.synchronous:
        assert "no synchronous standby" not in shown
    else:
        assert "no synchronous standby" in shown
        until(lambda: "no synchronous standby" in replica.command_line("status").stdout, "status reports it")
