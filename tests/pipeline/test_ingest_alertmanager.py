"""Episodes from a real Alertmanager, with truncated and lost notifications."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.servers import until
from tests.support.servers.remediator import TOKEN, Stack

pytestmark = [pytest.mark.slow, pytest.mark.promise(1)]

Started = Callable[[str], Stack]


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Started]:
    """Return the small real stack with these webhook settings in Alertmanager; it reconciles every second."""
    made: list[Stack] = []

    def start(more: str) -> Stack:
        stack = Stack(tmp_path)
        made.append(stack)
        stack.remediator.playbooks = []
        stack.remediator.settings["timing"] |= {"reconcile": "1s", "resolve_grace": "1s"}
        stack.alertmanager.configuration = f"""
route: {{receiver: remediator, group_by: [alertname], group_wait: 100ms, group_interval: 1s, repeat_interval: 1h}}
receivers:
  - name: remediator
    webhook_configs:
      - url: {stack.remediator.url}/api/v1/alerts
        {more}
        http_config: {{authorization: {{credentials: {TOKEN}}}}}
"""
        stack.start()
        return stack

    yield start
    for stack in made:
        stack.stop()


def episodes(stack: Stack) -> Counter[tuple[str, str]]:
    """Return the number of episodes by alert number and status."""
    connection = sqlite3.connect(f"file:{stack.remediator.folder}/state/remediator.db?mode=ro", uri=True)
    found = connection.execute("SELECT json_extract(labels, '$.n'), status FROM episodes").fetchall()
    connection.close()
    return Counter((str(number), str(status)) for number, status in found)


def test_what_a_group_leaves_out_is_fetched(started: Started) -> None:
    """max_alerts is 2 and the group has 12 alerts: the rest is fetched, so every alert has one episode."""
    stack = started("max_alerts: 2")
    for number in range(12):
        stack.alertmanager.fire(alertname="Many", n=str(number))
    wanted = Counter({(str(number), "firing"): 1 for number in range(12)})
    until(lambda: episodes(stack) >= wanted, "twelve episodes")
    assert episodes(stack) == wanted, "an alert has one episode, and no other alert has any"


def test_what_was_missed_is_found(started: Started) -> None:
    """The notification is lost, and the reconcile loop finds the alert."""
    stack = started("max_alerts: 1")
    stack.remediator.kill()
    for number in range(3):
        stack.alertmanager.fire(alertname="Missed", n=str(number))
    stack.remediator.start()
    wanted = Counter({(str(number), "firing"): 1 for number in range(3)})
    until(lambda: episodes(stack) >= wanted, "all are there")
    assert episodes(stack) == wanted, "an alert has one episode, and no other alert has any"
