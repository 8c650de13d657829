"""Three replicas on one PostgreSQL, each alert posted to all of them at once and many times: one run, one action."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice

import pytest

from tests.promises.conftest import MakeHouse
from tests.promises.house import counted, succeeded
from tests.servers import until

pytestmark = [pytest.mark.slow, pytest.mark.promise(2), pytest.mark.promise(4), pytest.mark.timeout(900)]

ROUNDS = int(os.environ.get("RACES", "3"))
"""Incidents; ``make races`` has more."""
COPIES = 10
"""How often each alert is posted, spread over the replicas."""


def test_duplicates_at_three_replicas_are_one_run_and_one_action(make_house: MakeHouse, postgres_url: str) -> None:
    """Each incident is announced ten times at once, and one replica is killed half-way and another started: every
    copy is acknowledged, each target has one run and one restart by its own log, and no intent was written twice."""
    house = make_house(targets=ROUNDS, store=postgres_url)
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
