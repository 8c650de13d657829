"""Three replicas on one PostgreSQL, each alert posted to all of them at once and many times: one run, one action."""

from __future__ import annotations

import os
import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from itertools import cycle, islice

import pytest

from tests.promises.conftest import MakeHouse
from tests.support.claim_history import Seen, Tried, faults, record, seen, tried
from tests.support.replicas import PLAYBOOK, CrashingRemediator, House, counted, rows, succeeded
from tests.support.servers import until
from tests.support.servers.receivers import Receiver, receiver

ROUNDS = int(os.environ.get("RACES", "3"))
"""Incidents; ``make races`` has more."""
EPISODES = int(os.environ.get("EPISODES", "60"))
"""Alerts at once, each at a service of its own; ``make races`` has thousands."""
COPIES = 10
"""How often each alert is posted, spread over the replicas."""

pytestmark = [pytest.mark.long, pytest.mark.promise(2), pytest.mark.promise(4), pytest.mark.timeout(900 + 3 * EPISODES)]


def test_duplicates_at_three_replicas_are_one_run_and_one_action(make_house: MakeHouse, postgres_url: str) -> None:
    """Each incident is announced ten times at once, and one replica is killed half-way and another started: every
    copy is acknowledged, each target has one run and one restart by its own log, and no intent was written twice."""
    house = make_house(targets=ROUNDS, store=postgres_url)
    record(postgres_url)
    replicas = [house.replica() for _ in range(3)]
    for replica in replicas:
        replica.start()
    for number, target in enumerate(house.targets):
        with ThreadPoolExecutor(COPIES) as pool:
            posts = [pool.submit(replica.tell, target, tries=50) for replica in islice(cycle(replicas), COPIES)]
            if number == ROUNDS // 2:
                replicas[2].kill()
                replicas[2] = house.replica()
                replicas[2].start()
        heard = [post.result() for post in posts]
        assert heard.count(True) >= COPIES - COPIES // 3 - 1, "only the killed replica may leave a copy unanswered"
    until(lambda: succeeded(replicas[0]) == set(house.targets), "everything is healed", 300)

    assert {target: house.starts(target) for target in house.targets} == dict.fromkeys(house.targets, 2)
    assert counted(postgres_url, "SELECT count(*) FROM runs") == ROUNDS
    assert counted(postgres_url, "SELECT count(*) FROM attempts WHERE mutates AND outcome = 'ok'") == ROUNDS
    assert faults(seen(postgres_url), tried(postgres_url)) == []


HARMLESS = {"destructive": False, "interrupts": False}
"""What the settings declare about a request, so that no person is asked."""
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
"""Its action leaves no sign at the target and cannot be repeated: only the counting of the one who is asked tells."""


def pushing(house: House, chat: Receiver, services: list[str]) -> CrashingRemediator:
    """A replica with so many services, whose remedy is one request to the one who counts; not started."""
    made = house.replica(
        requests={"push": {"url": f"{chat.url}/push", "fields": ["target"], "private": True, **HARMLESS}}
    )
    made.playbooks = [PUSHES]
    bound = made.inventory["services"][house.targets[0]]
    made.inventory["services"] = {name: deepcopy(bound) | {"http": house.http(name)} for name in services}
    plenty = 100 * len(services)
    made.settings["guards"] |= {
        "rate_limit": {"target": ["50/1h"], "playbook": [f"{plenty}/1h"], "global": [f"{plenty}/1h"]},
        "ramp": [plenty],
    }
    return made


def test_thousands_of_episodes_are_each_acted_on_once(make_house: MakeHouse, postgres_url: str) -> None:
    """Alerts at so many services in notifications of fifty, each posted ten times in any order to any of three
    replicas: as many requests as episodes, one for each, and a history of claims that is one of locks."""
    house = make_house(store=postgres_url)
    record(postgres_url)
    services = [f"service-{number}" for number in range(EPISODES)]
    with receiver() as asked:
        house.mended = lambda name: any(item.json["target"] == name for item in asked.received)
        replicas = [pushing(house, asked, services) for _ in range(3)]
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

    # a request that was not answered in time is never sent again: a person is asked
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
    """One notification about them all."""
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
def test_the_judge_of_histories_sees(case: str) -> None:
    """A history that no lock could have is not let pass; a good one is."""
    assert faults([CLAIM, MOVE], [CALL]) == []
    assert faults(BAD[case]) != []


def test_the_judge_of_histories_sees_calls() -> None:
    """Two at once on a target, or one under a token that nobody was given."""
    assert faults([CLAIM, MOVE], [CALL, Tried("r", "t", 1, 65, 80)]) != []
    assert faults([CLAIM, MOVE], [Tried("r", "t", 2, 60, 70)]) != []
