"""A decision on the command line follows the rules of the service, for the person who owns the token."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from remediator.storage.repositories import playbooks
from tests.support import commands
from tests.support.web_service import WebService, web_service


@pytest.fixture
async def web(tmp_path: Path) -> AsyncIterator[WebService]:
    """Return a running service that uses the real time, because the commands have no other clock."""
    async with web_service(tmp_path) as made:
        made.clock.time = datetime.now(UTC)
        yield made


async def _run(web: WebService, who: str, *argv: str) -> tuple[int, str]:
    """Run a command as this person. Return its exit status and its output."""
    environment = {**os.environ, "REMEDIATOR_TOKEN": web.tokens.get(who, "")}
    words = (*argv, "--config", str(web.service.config.base_dir / "remediator.yaml"))
    done = await asyncio.to_thread(commands.remediator, *words, environment=environment)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.promise(6)
@pytest.mark.parametrize(("verb", "status"), [("approve", "approved"), ("reject", "rejected"), ("snooze", "void")])
async def test_a_decision_counts_once(web: WebService, verb: str, status: str) -> None:
    """A decision can name the run or the request. A second decision changes nothing and exits with 1."""
    asked = await web.request_approval()
    code, said = await _run(web, "ann", "approval", verb, asked.run_id, "--reason", "seen")
    assert code == 0 and f"{verb} by ann recorded" in said
    after = await web.state(asked)
    assert after.status == status
    again, said = await _run(web, "bob", "approval", verb, asked.id)
    assert again == 1 and f"nothing was changed: request {asked.id} is already {status}" in said
    log = await web.audit_text()
    assert f'"verb":"{verb}"' in log and '"how":"token"' in log and "seen" in log


@pytest.mark.promise(6)
async def test_refresh_replaces_a_request_whose_playbook_changed(web: WebService) -> None:
    """Only a person with the right to decide can refresh a request, once, and only if it is outdated."""
    asked = await web.request_approval()
    code, said = await _run(web, "ann", "approval", "refresh", asked.run_id)
    assert code == 2 and "is still valid is unknown now" in said, said
    assert (await web.state(asked)).status == "pending"
    path = web.service.config.base_dir / "redis-disk-full.yaml"
    path.write_text(path.read_text().replace("Makes room", "Makes more room"))
    code, said = await _run(web, "victor", "approval", "refresh", asked.run_id)
    assert code not in (0, 1) and "needs the role 'approver'" in said, said
    code, said = await _run(web, "ann", "approval", "refresh", asked.run_id)
    assert code == 0 and f"request {asked.id} refreshed by ann: the playbook has changed" in said, said
    code, said = await _run(web, "ann", "approval", "refresh", asked.id)
    assert code == 1 and f"nothing was changed: request {asked.id} is already void" in said, said
    assert (await web.state(asked)).status == "void"
    assert '"actor":"ann"' in await web.audit_text()


@pytest.mark.promise(6)
async def test_a_refused_person_sees_the_reason(web: WebService) -> None:
    """The command refuses a person without token, role or group, names the reason, and the request stays open."""
    asked = await web.request_approval(groups=("sre",))
    for who, told in (("", "no operator token"), ("victor", "needs the role 'approver'"), ("eve", "sre")):
        code, said = await _run(web, who, "approval", "approve", asked.run_id)
        assert code not in (0, 1) and told in said, said
        assert "Traceback" not in said
    assert (await web.state(asked)).status == "pending"


@pytest.mark.promise(6)
async def test_a_destructive_plan_needs_confirmation(web: WebService) -> None:
    """An approval of a destructive plan counts only with the name of the target."""
    asked = await web.request_approval(destructive=True)
    code, said = await _run(web, "ann", "approval", "approve", asked.run_id)
    assert code != 0 and "redis" in said
    code, said = await _run(web, "ann", "approval", "approve", asked.run_id, "--confirm", "redis")
    assert code == 0, said
    assert (await web.state(asked)).status == "approved"


@pytest.mark.parametrize(
    ("what", "name", "told"),
    [
        ("--playbook", "redis-disk-fool", "did you mean 'redis-disk-full'?"),
        ("--service", "redsi", "did you mean 'redis'?"),
        ("--service", "billing", "known: app, redis"),
        ("--playbook", "not-there-yet", "known: redis-disk-full"),
    ],
)
async def test_a_stop_with_an_unknown_name_is_refused(web: WebService, what: str, name: str, told: str) -> None:
    """The error suggests the nearest name, and nothing is recorded. The right name is accepted."""
    book = web.context.playbooks.active
    await web.context.store.write(lambda tx: playbooks.add_versions(tx, book))
    before = await web.head()
    code, said = await _run(web, "oscar", "stop", "create", what, name, "--reason", "x")
    assert code == 2 and f"there is no {what[2:]} '{name}'" in said and told in said, said
    assert await web.head() == before
    right = "redis" if what == "--service" else "redis-disk-full"
    code, said = await _run(web, "oscar", "stop", "create", what, right, "--reason", "x")
    assert code == 0 and f"{what[2:]} {right} stopped" in said, said


async def test_a_stop_is_possible_with_a_broken_inventory(web: WebService) -> None:
    """With a broken inventory, the command warns that it did not check the name, and creates the stop."""
    web.service.config.inventory.write_text("kind: Nonsense")
    code, said = await _run(web, "oscar", "stop", "create", "--service", "redis", "--reason", "x")
    assert code == 0 and "cannot be read" in said and "service redis stopped" in said, said


async def test_status_shows_requests_and_stops(web: WebService) -> None:
    """`status` shows an open request and a stop."""
    asked = await web.request_approval()
    code, said = await _run(
        web, "oscar", "stop", "create", "--service", "redis", "--reason", "by hand", "--duration", "1h"
    )
    assert code == 0, said
    code, said = await _run(web, "", "status")
    asks = f"redis-disk-full on redis ({asked.run_id}) needs 1 more approval"
    assert code == 1 and asks in said and "by hand" in said, said
    assert "ATTENTION: the Watchdog was never received" in said, said


async def test_run_show_lists_the_calls_and_risks_of_a_request(web: WebService) -> None:
    """An approver sees the exact calls, their risks, and the command to decide."""
    asked = await web.request_approval()
    code, said = await _run(web, "", "run", "show", asked.run_id)
    headings = {"Alerts", "Planned calls", "Risks", "Why approval is needed", "Approvers and deadline"}
    assert code == 0 and headings <= set(said.splitlines()), said
    assert "Without a decision, nothing is done and the run is escalated to oncall." in said
    assert f"To decide, run: remediator approval approve {asked.run_id}" in said
