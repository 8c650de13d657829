"""End to end with real servers: alert, chat message, link, approval, and a fixed Redis."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml

from remediator.core.identity import hash_token, make_token
from tests.support import commands
from tests.support.servers import DEADLINE, until
from tests.support.servers.receivers import Receiver, receiver
from tests.support.servers.remediator import PLAYBOOK, Remediator, Stack
from tests.support.web_service import nonce_of, text_of

ANN, OSCAR = make_token(), make_token()


@pytest.fixture
def chat() -> Iterator[Receiver]:
    """Return a chat server on loopback."""
    with receiver() as made:
        yield made


@pytest.fixture
def asking(tmp_path: Path, chat: Receiver) -> Iterator[Stack]:
    """Return a real stack with a playbook that asks for approval in the chat."""
    made = Stack(tmp_path)
    remediator = made.remediator
    remediator.playbooks = [{**PLAYBOOK, "mode": "approve"}]
    remediator.settings |= {
        "public_url": remediator.url,
        "channels": {
            "dead": {"kind": "webhook", "url": "http://127.0.0.1:1/"},
            "chat": {"kind": "webhook", "url": chat.url},
        },
        "approvals": {"channels": ["chat"], "snooze_duration": "1s"},
        "access": {"people": "people.yaml"},
    }
    people = {
        "ann": {"roles": ["approver"], "tokens": [hash_token(ANN)]},
        "oscar": {"roles": ["operator"], "tokens": [hash_token(OSCAR)]},
    }
    (remediator.folder / "people.yaml").write_text(yaml.safe_dump({"kind": "People", "people": people}))
    try:
        made.start()
        yield made
    finally:
        made.stop()


def _asked(chat: Receiver, number: int = 1) -> str:
    """Return the link of the n-th request in the chat."""
    found: list[str] = []

    def arrived() -> bool:
        found[:] = [item.json["ask"]["link"] for item in list(chat.received) if "ask" in item.json]
        return len(found) >= number

    until(arrived, "the chat is asked")
    return found[number - 1]


def _decide(link: str, verb: str) -> str:
    """Submit a decision on the page and return the next page."""
    with httpx.Client(timeout=DEADLINE) as browser:
        page = browser.get(link)
        said = {"nonce": nonce_of(page.text), "verb": verb, "token": ANN}
        answer = browser.post(link, data=said, follow_redirects=True)
        assert answer.status_code == 200, answer.text
        return answer.text


def _cli(remediator: Remediator, *argv: str, token: str = OSCAR) -> subprocess.CompletedProcess[str]:
    environment = {**remediator.environment(), "REMEDIATOR_TOKEN": token}
    return commands.remediator(*argv, "--config", str(remediator.config), environment=environment)


@pytest.mark.promise(6)
def test_a_person_approves_by_a_link_and_the_run_succeeds(asking: Stack, chat: Receiver) -> None:
    """After Ann's approval by a link in the chat, Redis works again. The link then names Ann, and all is recorded."""
    asking.kill_redis()
    asking.alertmanager.fire(alertname="RedisDown", instance="redis:6379")
    link = _asked(chat)
    assert asking.redis()["statename"] != "RUNNING"

    page = _decide(link, "approve")
    assert "by ann" in page
    run = asking.remediator.wait_for("succeeded")

    assert asking.redis()["statename"] == "RUNNING"
    later = httpx.get(link, timeout=DEADLINE).text
    assert "Healed" in later and re.search(r"Approved at [0-9: -]+Z by ann", text_of(later))
    until(lambda: any(item.json["title"].startswith("Healed") for item in list(chat.received)), "the chat is told")
    assert asking.remediator.audit_has('"verb":"approve"')
    assert "approval.decided" in json.dumps(run["timeline"])
    token = link.rpartition("/")[2]
    assert token not in asking.remediator.log and not asking.remediator.audit_has(token)


@pytest.mark.promise(6)
def test_a_retry_is_approved_by_another_person(asking: Stack, chat: Receiver) -> None:
    """After a rejection nothing is done. An operator retries, and another person approves the new request."""
    asking.kill_redis()
    asking.alertmanager.fire(alertname="RedisDown", instance="redis:6379")
    _decide(_asked(chat), "reject")
    ended = asking.remediator.wait_for("cancelled")
    assert ended["reason"] == "rejected" and not ended["steps"]

    again = _cli(asking.remediator, "run", "retry", ended["id"], "--reason", "it is real")
    assert again.returncode == 0, again.stderr
    _asked(chat, 2)
    run_id = asking.remediator.wait_for("awaiting_approval")["id"]
    own = _cli(asking.remediator, "approval", "approve", run_id)
    assert own.returncode == 3 and "another person must approve" in own.stderr
    others = _cli(asking.remediator, "approval", "approve", run_id, token=ANN)
    assert others.returncode == 0, others.stderr
    asking.remediator.wait_for("succeeded")


@pytest.mark.promise(6)
def test_a_changed_plan_needs_another_approval(asking: Stack, chat: Receiver) -> None:
    """A snoozed request returns. A request is outdated after the target changed, and a new request follows."""
    asking.kill_redis()
    asking.alertmanager.fire(alertname="RedisDown", instance="redis:6379")
    _decide(_asked(chat), "snooze")
    second = _asked(chat, 2)
    asking.control("start")  # a manual restart, so the planned process does not exist any more
    page = httpx.get(second, timeout=DEADLINE).text
    assert "Outdated" in page and 'value="approve"' not in page and "with the current plan" in page
    _decide(second, "approve")  # from a form that was already open
    third = _asked(chat, 3)

    assert "outdated" in httpx.get(second, timeout=DEADLINE).text.lower()
    pid = asking.redis()["pid"]
    _decide(third, "approve")
    run = asking.remediator.wait_for("cancelled")  # Redis already answers, so its only step is not needed
    assert run["reason"] == "not_needed"
    assert asking.redis()["pid"] == pid and not run["steps"]


@pytest.mark.promise(6)
def test_a_request_of_a_changed_playbook_becomes_outdated(asking: Stack, chat: Receiver) -> None:
    """Requests of old playbook versions become outdated after a reload or a start with other files.

    The old link leads to the new request. Its approval fixes the fault.
    """
    remediator = asking.remediator
    asking.kill_redis()
    asking.alertmanager.fire(alertname="RedisDown", instance="redis:6379")
    first = _asked(chat)
    _rewrite(remediator, "written differently")
    second = _asked(chat, 2)
    page = httpx.get(first, timeout=DEADLINE).text
    assert "outdated: the playbook has changed" in page and "There is a new request" in page
    assert 'value="approve"' not in page

    remediator.stop()
    _rewrite(remediator, "and once more")
    remediator.start()
    third = _asked(chat, 3)
    assert "outdated: the playbook has changed" in httpx.get(second, timeout=DEADLINE).text

    _decide(third, "approve")
    remediator.wait_for("succeeded")
    assert [run["status"] for run in remediator.runs()] == ["succeeded"]


def _rewrite(remediator: Remediator, summary: str) -> None:
    """Change the summary of the playbook."""
    remediator.playbooks = [{**remediator.playbooks[0], "summary": summary}]
    remediator.write()


def test_cancel_ends_a_run_that_waits(asking: Stack, chat: Receiver) -> None:
    """An operator cancels a waiting run with the command line, and the page of the request shows it."""
    asking.kill_redis()
    asking.alertmanager.fire(alertname="RedisDown", instance="redis:6379")
    link = _asked(chat)
    run_id = asking.remediator.runs()[0]["id"]

    weak = _cli(asking.remediator, "run", "cancel", run_id, token=ANN)
    assert weak.returncode == 3 and "operator" in weak.stderr
    assert _cli(asking.remediator, "run", "cancel", run_id).returncode == 0
    asking.remediator.wait_for("cancelled")
    assert "outdated" in httpx.get(link, timeout=DEADLINE).text.lower()
