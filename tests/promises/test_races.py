"""If each alert is posted many times to three replicas on one PostgreSQL, there is one run and one action."""

from __future__ import annotations

import os
import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from itertools import cycle, islice

import pytest

from tests.promises.conftest import MakeInstallation
from tests.support.claim_history import Seen, Tried, faults, record, seen, tried
from tests.support.replicas import PLAYBOOK, CrashingRemediator, Installation, counted, rows, succeeded
from tests.support.servers import until
from tests.support.servers.receivers import Receiver, receiver

ROUNDS = int(os.environ.get("RACES", "3"))
"""Number of incidents. ``make races`` uses more."""
EPISODES = int(os.environ.get("EPISODES", "60"))
"""Number of alerts at once, each for another service. ``make races`` uses thousands."""
COPIES = 10
"""How often each alert is posted, spread over the replicas."""

pytestmark = [pytest.mark.long, pytest.mark.promise(2), pytest.mark.promise(4), pytest.mark.timeout(900 + 3 * EPISODES)]


def test_duplicates_at_three_replicas_are_one_run_and_one_action(
    make_installation: MakeInstallation, postgres_url: str
) -> None:
    """Ten copies of each alert, posted at once, give one run, one restart and no second intent.

    Meanwhile one replica is killed and another one started. Every copy is acknowledged. The log of each target counts
    its restarts.
    """
    installation = make_installation(targets=ROUNDS, store=postgres_url)
    record(postgres_url)
    replicas = [installation.replica() for _ in range(3)]
    for replica in replicas:
        replica.start()
    for number, target in enumerate(installation.targets):
        with ThreadPoolExecutor(COPIES) as pool:
            posts = [pool.submit(replica.tell, target, tries=50) for replica in islice(cycle(replicas), COPIES)]
            if number == ROUNDS // 2:
                replicas[2].kill()
                replicas[2] = installation.replica()
                replicas[2].start()
        heard = [post.result() for post in posts]
        assert heard.count(True) >= COPIES - COPIES // 3 - 1, "only the killed replica may leave a copy unanswered"
    until(lambda: succeeded(replicas[0]) == set(installation.targets), "everything is healed", 300)

    assert {target: installation.starts(target) for target in installation.targets} == dict.fromkeys(
        installation.targets, 2
    )
    assert counted(postgres_url, "SELECT count(*) FROM runs") == ROUNDS
    assert counted(postgres_url, "SELECT count(*) FROM attempts WHERE mutates AND outcome = 'ok'") == ROUNDS
    assert faults(seen(postgres_url), tried(postgres_url)) == []


HARMLESS = {"destructive": False, "interrupts": False}
"""Declaration of a request in the settings, so that no approval is needed."""
PUSHES = {
    **PLAYBOOK,
    "name": "target-pushed",
    "match": {"alertname": "TargetPushed"},
    "steps": [
        {
            "id": "push",
            "action": "http.request",
            "for": "down",
            "with": {"request": "push", "fields": {"target": "${service}"}},
        }
    ],
}
"""The action leaves no trace at the target, so only the receiver of the request can count its calls."""


def pushing(installation: Installation, chat: Receiver, services: list[str]) -> CrashingRemediator:
    """Return a replica, not started, with these services. Their remedy is one request to a receiver that counts it."""
    made = installation.replica(
        requests={"push": {"url": f"{chat.url}/push", "fields": ["target"], "private": True, **HARMLESS}}
    )
    made.playbooks = [PUSHES]
    bound = made.inventory["services"][installation.targets[0]]
    made.inventory["services"] = {name: deepcopy(bound) | {"http": installation.http(name)} for name in services}
    plenty = 100 * len(services)
    made.settings["guards"] |= {
        "rate_limit": {"target": ["50/1h"], "playbook": [f"{plenty}/1h"], "global": [f"{plenty}/1h"]},
        "ramp": [plenty],
    }
    return made


def test_thousands_of_episodes_are_each_acted_on_once(make_installation: MakeInstallation, postgres_url: str) -> None:
    """Each alert is posted ten times to three replicas. Each episode causes one request, and all claims are valid."""
    installation = make_installation(store=postgres_url)
    record(postgres_url)
    services = [f"service-{number}" for number in range(EPISODES)]
    with receiver() as asked:
        installation.fixed = lambda name: any(item.json["target"] == name for item in asked.received)
        replicas = [pushing(installation, asked, services) for _ in range(3)]
        for replica in replicas:
            replica.start()
        bodies = [group(replicas[0], services[start : start + 50]) for start in range(0, EPISODES, 50)] * COPIES
        random.Random(7).shuffle(bodies)
        with ThreadPoolExecutor(6) as pool:
            posts = [pool.submit(replica.post, body) for replica, body in zip(cycle(replicas), bodies, strict=False)]
        assert {post.result()[0] for post in posts} == {200}
        over = "SELECT count(*) FROM runs WHERE finished_at IS NOT NULL"
        until(lambda: counted(postgres_url, over) == EPISODES, "everything is over", 300 + 2 * EPISODES)
        pushed = Counter(item.json["target"] for item in asked.received)

    # a request without an answer in time is never sent again, and a person is asked
    ends = Counter((row.status, row.reason) for row in rows(postgres_url, "SELECT status, reason FROM runs"))
    unknown = ends.pop(("escalated", "outcome_unknown"), 0)
    assert {status for status, _ in ends} == {"succeeded"} and unknown <= EPISODES // 20
    assert set(pushed.values()) == {1} and len(pushed) >= EPISODES - unknown
    assert counted(postgres_url, "SELECT count(*) FROM episodes") == EPISODES
    assert counted(postgres_url, "SELECT count(*) FROM runs") == EPISODES
    history, calls = seen(postgres_url), tried(postgres_url)
    assert faults(history, calls) == []
    claims = sum(one.fence != one.old_fence for one in history)
    owners = Counter(one.owner for one in history if one.fence != one.old_fence)
    print(
        f"{EPISODES} episodes, {len(bodies)} notifications, {len(calls)} actions ({unknown} unanswered), "
        f"{claims} claims by {dict(owners)}"
    )


def group(replica: CrashingRemediator, services: list[str]) -> bytes:
    """Return one notification with an alert for each service."""
    return replica.notification_of([{"alertname": "TargetPushed", "service": service} for service in services])


CLAIM = Seen("r", "matched", "matched", 0, 1, None, "a", None, 100, 50)
MOVE = Seen("r", "matched", "planned", 1, 1, "a", "a", 100, 100, 60)
CALL = Tried("r", "t", 1, 60, 70)
BAD = {
    "taken while it is held": [CLAIM, Seen("r", "matched", "matched", 1, 2, "a", "b", 100, 200, 90)],
    "the same token": [CLAIM, Seen("r", "matched", "matched", 1, 1, "a", "b", 100, 200, 150)],
    "a token left out": [CLAIM, Seen("r", "matched", "matched", 1, 3, "a", "b", 100, 200, 150)],
    "moved by nobody": [Seen("r", "matched", "planned", 1, 1, None, None, None, None, 60)],
    "a change that nobody saw": [CLAIM, Seen("r", "planned", "running", 2, 2, "b", "b", 100, 200, 60)],
}


@pytest.mark.parametrize("case", BAD)
def test_the_check_of_histories_finds_invalid_locks(case: str) -> None:
    """The check rejects an impossible history of locks and accepts a valid one."""
    assert faults([CLAIM, MOVE], [CALL]) == []
    assert faults(BAD[case]) != []


def test_the_check_of_histories_finds_concurrent_calls() -> None:
    """The check rejects two calls at once on a target, and a call with a token that was never granted."""
    assert faults([CLAIM, MOVE], [CALL, Tried("r", "t", 1, 65, 80)]) != []
    assert faults([CLAIM, MOVE], [Tried("r", "t", 2, 60, 70)]) != []
