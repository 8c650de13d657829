"""When PostgreSQL hangs or is gone, nothing acknowledged is lost and nothing is done twice."""

from __future__ import annotations

import os
import threading
from collections import Counter
from dataclasses import dataclass, field
from urllib.error import HTTPError

import pytest

from tests.promises.conftest import MakeInstallation
from tests.support.replicas import CrashingRemediator, counted, rows, succeeded
from tests.support.servers import until
from tests.support.servers.postgres import MakePostgres, Postgres

pytestmark = [pytest.mark.long, pytest.mark.promise(1), pytest.mark.promise(4)]

SECONDS = float(os.environ.get("OUTAGE", "8"))
"""Seconds of the outage, more than the lease (3 s) and the timeout of a sender. ``make outage`` uses 60."""
REPLICAS = 3
BEFORE = 4
"""Incidents that are in progress or just acknowledged when the outage begins."""
TARGETS = 12
"""All incidents, including those that are sent during the outage."""


@dataclass
class Senders:
    """One Alertmanager for each target, which posts to the replicas in turn until it gets a 2xx."""

    replicas: list[CrashingRemediator]
    heard: Counter[int] = field(default_factory=Counter)
    """Answers during the outage by status, with 0 for no answer."""
    acknowledged: dict[str, bytes] = field(default_factory=dict)
    threads: list[threading.Thread] = field(default_factory=list)
    enough: threading.Event = field(default_factory=threading.Event)
    away: threading.Event = field(default_factory=threading.Event)

    def send(self, target: str, first: int = 0) -> None:
        """Begin to send the alert of a target, and repeat it until it is acknowledged."""
        self.threads.append(threading.Thread(target=self._insist, args=(target, first), daemon=True))
        self.threads[-1].start()

    def _insist(self, target: str, turn: int) -> None:
        body = self.replicas[0].notification("firing", alertname="TargetDown", service=target)
        while not self.enough.is_set():
            away = self.away.is_set()
            try:
                status = self.replicas[turn % len(self.replicas)].post(body)[0]
            except OSError:
                status = 0
            if away and self.away.is_set():
                self.heard[status] += 1
            if status == 200:
                self.acknowledged[target] = body
                return
            turn += 1
            self.enough.wait(0.3)

    def wait(self) -> None:
        """Wait until every alert has got its 2xx."""
        for thread in self.threads:
            thread.join(120)
        assert not any(thread.is_alive() for thread in self.threads), f"not acknowledged: {self.heard}"


def lose(server: Postgres, how: str) -> None:
    """Stop PostgreSQL. If it hangs, connections stay open without answers. If it is gone, they are refused."""
    if how == "hangs":
        server.pause()
    else:
        server.kill()


def bring_back(server: Postgres, how: str) -> None:
    """Start the same database again."""
    if how == "hangs":
        server.resume()
    else:
        server.start()
    until(server.ready, "PostgreSQL answers again")


def inboxes(url: str) -> Counter[bytes]:
    """Return every stored body, and how often it is stored."""
    return Counter(bytes(body) for (body,) in rows(url, "SELECT body FROM notifications"))


def unready(replica: CrashingRemediator) -> bool:
    """Return whether the replica answers in time that it is not ready."""
    try:
        replica.get("/readyz")
    except HTTPError as error:
        return error.code == 503
    except TimeoutError:
        return False
    return False


def nothing_left(url: str) -> bool:
    """Return whether there is no open run, lease, target lock or unprocessed notification."""
    left = "SELECT count(*) FROM runs WHERE finished_at IS NULL OR lease_owner IS NOT NULL OR holds_target"
    waiting = "SELECT count(*) FROM notifications WHERE processed_at IS NULL"
    return counted(url, left) == 0 and counted(url, waiting) == 0


@pytest.mark.promise(3)
@pytest.mark.parametrize("how", ["hangs", "gone"])
def test_losing_postgresql_loses_nothing(
    make_installation: MakeInstallation, make_postgres: MakePostgres, how: str
) -> None:
    """If PostgreSQL fails for a time while alerts arrive, no alert is lost and each target is restarted once.

    Three replicas run on the database. Without it there is never a 2xx. In the end, no run, lease or notification
    remains.
    """
    server = make_postgres(durable=True)
    url = server.url(server.database(), tcp=True)
    installation = make_installation(targets=TARGETS, store=url)
    replicas = [installation.replica() for _ in range(REPLICAS)]
    for replica in replicas:
        replica.start()
    senders = Senders(replicas)
    for number, target in enumerate(installation.targets[:BEFORE]):
        senders.send(target, number)
    until(lambda: counted(url, "SELECT count(*) FROM attempts WHERE mutates") > 0, "actions are under way")

    lose(server, how)
    senders.away.set()
    for number, target in enumerate(installation.targets[BEFORE:]):
        senders.send(target, number)
    threading.Event().wait(SECONDS)  # the outage itself, whose length matters here
    until(lambda: senders.heard[503] > 0, "senders are told to try again")
    until(lambda: all(unready(replica) for replica in replicas), "every replica says that it is not ready")
    senders.away.clear()
    bring_back(server, how)

    senders.wait()
    until(lambda: succeeded(replicas[0]) == set(installation.targets), "everything is healed", 240)
    assert set(senders.heard) <= {503, 0}, f"acknowledged without a database: {senders.heard}"
    assert set(inboxes(url)) >= set(senders.acknowledged.values())
    assert {target: installation.starts(target) for target in installation.targets} == dict.fromkeys(
        installation.targets, 2
    )
    assert counted(url, "SELECT count(*) FROM runs") == TARGETS
    until(lambda: nothing_left(url), "nothing is left lying")
    print(f"{how} for {SECONDS:g} s: answers meanwhile {dict(senders.heard)}, {TARGETS} runs, {TARGETS} restarts")
