"""The page of an outdated request shows that the plan changed, before a person decides."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from remediator.core.run import Run, Status
from remediator.errors import InputError
from remediator.extensions.registry import Registry
from remediator.pipeline.approval_validity import Validity
from remediator.pipeline.approve import await_approval
from remediator.pipeline.run_context import RunContext
from remediator.playbooks.inventory import Inventory
from remediator.playbooks.loader import load
from remediator.playbooks.model import Playbook
from remediator.storage.repositories import runs, stops
from remediator.storage.repositories.approvals import Approval
from remediator.web.site import ValidityChecks
from tests.support.web_service import INVENTORY, WebService, nonce_of, submit_decision, web_service

pytestmark = pytest.mark.promise(6)


@pytest.fixture
async def web(tmp_path: Path) -> AsyncIterator[WebService]:
    """Return a service with its files in a directory."""
    async with web_service(tmp_path) as made:
        yield made


def edit(web: WebService, folder: Path) -> None:
    """Load another version of the playbook."""
    path = folder / "redis-disk-full.yaml"
    path.write_text(path.read_text().replace("Makes room", "Makes more room"))
    loaded = load([path], folder / "inventory.yaml", Registry().catalogue())
    [playbook] = loaded.playbooks
    assert isinstance(playbook, Playbook) and playbook.content_hash != web.context.playbooks.active[0].content_hash
    web.context.playbooks.active = (playbook,)
    web.context.playbooks.add_version(playbook)


def _forget(web: WebService, folder: Path) -> None:
    """Remove the target from the inventory."""
    services = {"app": {**INVENTORY["services"]["app"], "depends_on": []}}  # type: ignore[index]
    web.context.playbooks.inventory = Inventory.model_validate({**INVENTORY, "services": services})


@pytest.mark.parametrize(
    ("change", "said"), [(edit, "The playbook has changed"), (_forget, "It can no longer be planned")]
)
async def test_an_outdated_request_cannot_be_approved(web: WebService, tmp_path: Path, change: Any, said: str) -> None:
    """The page states that the request is outdated and offers no approval. Viewing changes nothing."""
    asked = await web.request_approval()
    async with web.client() as client:
        assert 'value="approve"' in (await client.get(web.link(asked))).text
        change(web, tmp_path)
        before = await web.head()
        for path in (web.link(asked), f"/approvals/{asked.id}"):
            page = (await client.get(path)).text
            assert "Outdated: the plan changed" in page and said in page, path
            assert 'value="approve"' not in page and 'value="snooze"' not in page and "break_glass" not in page
            assert 'value="pause"' in page and 'value="reject"' in page
    assert await web.head() == before
    assert (await web.state(asked)).status == "pending"


async def test_a_refresh_closes_the_request_and_plans_again(web: WebService, tmp_path: Path) -> None:
    """After a refresh, the request is outdated, and the run is planned again with the loaded playbook."""
    asked = await web.request_approval()
    edit(web, tmp_path)
    async with web.client() as client:
        assert (await submit_decision(client, web.link(asked), "refresh")).status_code == 403, "a link alone is nobody"
        assert (
            await submit_decision(client, web.link(asked), "refresh", token=web.tokens["victor"])
        ).status_code == 403
        assert (await web.state(asked)).status == "pending"
        assert (await submit_decision(client, web.link(asked), "refresh", token=web.tokens["ann"])).status_code == 303
        page = (await client.get(web.link(asked))).text
    assert "Outdated (the playbook has changed)" in page
    run = await _goes_on(web, asked)
    assert run.status is Status.MATCHED
    assert run.playbook_hash == web.context.playbooks.active[0].content_hash, "by the playbook that is in force"
    assert '"actor":"ann"' in await web.audit_text()


async def test_the_api_refreshes_by_the_same_rules(web: WebService, tmp_path: Path) -> None:
    """The API shows validity and reason. A refresh needs the right to decide and happens once."""
    asked = await web.request_approval()
    path = f"/api/v1/approvals/{asked.id}"
    async with web.client() as client:
        told = (await client.get(path)).json()["validity"]
        assert told["valid"] is None and "no connection" in told["reason"], "the target cannot be asked"
        unsure = await client.post(f"{path}/refresh", headers=web.bearer("ann"))
        assert unsure.status_code == 409 and "unknown now" in unsure.json()["error"]
        edit(web, tmp_path)
        told = (await client.get(path)).json()["validity"]
        assert told == {"valid": False, "reason": "the playbook has changed"}
        assert (await client.post(f"{path}/refresh", headers=web.bearer("victor"))).status_code == 403
        for refreshed, reason in ((True, "the playbook has changed"), (False, "")):
            answer = await client.post(f"{path}/refresh", headers=web.bearer("ann"))
            who = {"id": asked.id, "by": "ann", "reason": reason}
            assert answer.json() == {"status": "void", "refreshed": refreshed, **who}
        assert (await client.get(path)).json()["validity"] is None
        assert (await client.post("/api/v1/approvals/none/refresh", headers=web.bearer("ann"))).status_code == 404
    assert (await _goes_on(web, asked)).status is Status.MATCHED


async def test_only_an_outdated_request_is_refreshed(web: WebService) -> None:
    """A request is refreshed only if it is outdated. If it is valid, or if this is unknown, a refresh is refused."""
    asked = await web.request_approval(quorum=2)
    async with web.client() as client:
        await submit_decision(client, web.link(asked), "approve", token=web.tokens["ann"])
        refused = await submit_decision(client, web.link(asked), "refresh", token=web.tokens["bob"])
    assert refused.status_code == 422 and "unknown now" in refused.text, "it may well stand"
    assert (await web.state(asked)).status == "pending"
    with pytest.raises(InputError, match="still valid"):
        Validity().refresh_reason()


async def test_an_approval_of_a_changed_plan_does_not_count(web: WebService, tmp_path: Path) -> None:
    """A decision from an old form is recorded, and then the request becomes outdated."""
    asked = await web.request_approval()
    async with web.client() as client:
        page = await client.get(web.link(asked))
        edit(web, tmp_path)
        nonce = nonce_of(page.text)
        said = {"nonce": nonce, "verb": "approve", "token": web.tokens["ann"]}
        assert (await client.post(web.link(asked), data=said)).status_code == 303
    run = await _goes_on(web, asked)
    assert run.status is Status.MATCHED and (await web.state(asked)).status == "void"


async def test_unknown_validity_is_shown(web: WebService) -> None:
    """If the target does not answer, the page shows the form and a warning."""
    asked = await web.request_approval()  # the request is for a supervisor that does not run
    async with web.client() as client:
        page = (await client.get(web.link(asked))).text
    assert "Cannot check now whether the plan is still current" in page and 'value="approve"' in page


async def test_concurrent_views_share_one_check(web: WebService, tmp_path: Path) -> None:
    """Concurrent views of a page ask the target once, so that links cannot overload it."""
    accepted: list[None] = []

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.append(None)
        await reader.readline()
        writer.close()

    server = await asyncio.start_unix_server(hang, tmp_path / "s")
    platform = {"kind": "supervisor", "url": f"unix://{tmp_path}/s", "program": "redis"}
    services = {**INVENTORY["services"], "redis": {"platform": platform}}  # type: ignore[dict-item]
    web.context.playbooks.inventory = Inventory.model_validate({**INVENTORY, "services": services})
    asked = await web.request_approval()
    run = await web.context.store.read(lambda connection: runs.get(connection, asked.run_id))
    assert run is not None
    checks = ValidityChecks(web.service)
    async with server:
        found = await asyncio.gather(*(checks.check(asked, run) for _ in range(12)))  # all begin before one ends
    assert len(accepted) == 1
    assert len(set(found)) == 1 and found[0].unknown


@pytest.mark.promise(10)
async def test_a_stop_does_not_wait_for_the_target(web: WebService, tmp_path: Path) -> None:
    """A stop from the page works even if the target hangs, because it is not asked."""
    asked_for: list[None] = []

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked_for.append(None)
        await reader.read()
        writer.close()

    server = await asyncio.start_unix_server(hang, tmp_path / "s")
    asked = await web.request_approval()
    async with server, web.client() as client:
        nonce = nonce_of((await client.get(web.link(asked))).text)
        platform = {"kind": "supervisor", "url": f"unix://{tmp_path}/s", "program": "redis"}
        services = {**INVENTORY["services"], "redis": {"platform": platform}}  # type: ignore[dict-item]
        web.context.playbooks.inventory = Inventory.model_validate({**INVENTORY, "services": services})
        page = await client.get(web.link(asked))
        assert "gave no answer within" in page.text and 'value="approve"' in page.text
        before = len(asked_for)
        said = {"nonce": nonce, "verb": "pause", "token": web.tokens["ann"]}
        assert (await client.post(web.link(asked), data=said)).status_code == 303
        assert before and len(asked_for) == before
    assert await web.context.store.read(lambda connection: stops.list_active(connection, web.clock.now()))


async def _goes_on(web: WebService, asked: Approval) -> Run:
    """Process the run once and return it."""

    def claim(tx: Any) -> None:
        tx.connection.exec_driver_sql(
            "UPDATE runs SET lease_owner = 'replica-1', fence = fence + 1, lease_until = 9000000000000000"
        )

    await web.context.store.write(claim)
    run = await web.context.store.read(lambda connection: runs.get(connection, asked.run_id))
    assert run is not None
    return (await await_approval(RunContext(web.context, run))).run
