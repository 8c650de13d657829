"""No permission outlives its removal: people, tokens, groups, sessions, webhook tokens and decisions."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from sqlalchemy import update

from remediator.core.identity import hash_token, make_token
from remediator.pipeline.approve import await_approval
from remediator.pipeline.run_context import RunContext
from remediator.runtime.reload import reload
from remediator.storage import Tx
from remediator.storage.repositories import approvals, runs, sessions
from remediator.storage.schema import runs as runs_table
from tests.support.web_service import WebService, nonce_of, submit_decision, web_service

pytestmark = pytest.mark.promise(6)


def change_people(folder: Path, **people: dict[str, Any] | None) -> None:
    """Change entries of the people file. None removes an entry."""
    path = folder / "people.yaml"
    content = yaml.safe_load(path.read_text())
    for name, entry in people.items():
        if entry is None:
            del content["people"][name]
        else:
            content["people"][name] |= entry
    path.write_text(yaml.safe_dump(content))


async def reload_files(web: WebService) -> None:
    """Reload the files as the reload loop does after a change."""
    await reload(web.service.reload, web.service.reload.signatures(), requested=False)


async def sign_in(client: httpx.AsyncClient, token: str) -> None:
    """Sign in with an operator token."""
    page = await client.get("/sign-in")
    answer = await client.post("/sign-in", data={"nonce": nonce_of(page.text), "token": token, "next": "/"})
    assert answer.status_code == 303, answer.text


async def who(client: httpx.AsyncClient, **headers: str) -> int:
    """Return the status of a request that only people with read access can make."""
    return (await client.get("/api/v1/runs", headers=headers)).status_code


@pytest.fixture
def access() -> dict[str, Any]:
    """Return access settings without anonymous reading."""
    return {"anonymous_role": "none"}


async def test_a_removed_person_loses_token_and_session_without_a_restart(tmp_path: Path, access: Any) -> None:
    """After the people file was read again, neither the token nor the session of a removed person is accepted."""
    async with web_service(tmp_path, access=access) as web, web.client() as client, web.client() as browser:
        await sign_in(browser, web.tokens["ann"])
        assert await who(client, **web.bearer("ann")) == await who(browser) == 200
        change_people(tmp_path, ann=None)
        await reload_files(web)
        assert await who(client, **web.bearer("ann")) == await who(browser) == 401
        assert '"people_removed":["ann"]' in await web.audit_text()
        [ended] = await web.context.store.read(lambda connection: list(connection.exec_driver_sql(
            "SELECT ended_at FROM sessions WHERE person = 'ann'")))  # fmt: skip
        assert ended[0] is not None


async def test_a_replaced_operator_token_ends_the_sessions_that_it_started(tmp_path: Path, access: Any) -> None:
    """A replaced token ends all sessions that it started, so a leaked token is useless."""
    async with web_service(tmp_path, access=access) as web, web.client() as browser:
        await sign_in(browser, web.tokens["ann"])
        change_people(tmp_path, ann={"tokens": [hash_token(make_token())]})
        await reload_files(web)
        assert await who(browser) == 401


async def test_a_changed_role_counts_at_once(tmp_path: Path, access: Any) -> None:
    """A session has the current rights, not the rights at the sign-in."""
    async with web_service(tmp_path, access=access) as web, web.client() as client:
        asked = await web.request_approval()
        change_people(tmp_path, ann={"roles": ["viewer"]})
        await reload_files(web)
        answer = await submit_decision(client, web.link(asked), "approve", token=web.tokens["ann"])
        assert answer.status_code == 403


async def test_a_broken_people_file_keeps_the_last_valid_one_and_is_reported(web: WebService, tmp_path: Path) -> None:
    """An error in the people file changes no rights and is reported."""
    (tmp_path / "people.yaml").write_text("people: [")
    await reload_files(web)
    async with web.client() as client:
        assert await who(client, **web.bearer("ann")) == 200
    assert "config.rejected" in await web.audit_kinds()


async def test_a_signed_out_cookie_is_not_accepted_again(tmp_path: Path, access: Any) -> None:
    """After a sign-out, a copy of the cookie is refused."""
    async with web_service(tmp_path, access=access) as web, web.client() as browser, web.client() as thief:
        await sign_in(browser, web.tokens["ann"])
        thief.cookies.update(browser.cookies)
        assert await who(thief) == 200
        page = await browser.get("/")
        await browser.post("/sign-out", data={"nonce": nonce_of(page.text)})
        assert await who(thief) == 401


async def test_sessions_end_when_idle_and_at_their_absolute_limit(tmp_path: Path, access: Any) -> None:
    """Use extends a session, but only up to its absolute limit."""
    limits = {"session": "3h", "session_idle": "1h"}
    async with web_service(tmp_path, access=access | limits) as web, web.client() as busy, web.client() as idle:
        await sign_in(busy, web.tokens["ann"])
        await sign_in(idle, web.tokens["bob"])
        for minutes, expected in ((50, (200, 200)), (100, (200, None)), (150, (200, None)), (179, (200, 401))):
            web.clock.time = web.started + timedelta(minutes=minutes)
            if minutes == 50:
                page_update = {"Sec-Fetch-Dest": "empty"}
                assert await who(idle, **page_update) == 200, "a page that updates itself does not extend a session"
            assert await who(busy) == expected[0]
            if expected[1] is not None and minutes != 50:
                assert await who(idle) == expected[1]
        web.clock.time = web.started + timedelta(minutes=181)
        assert await who(busy) == 401


async def test_an_administrator_ends_all_sessions_of_a_person(tmp_path: Path, access: Any) -> None:
    """Only an administrator can end all sessions of a person. Other sessions stay."""
    async with web_service(tmp_path, access=access) as web, web.client() as ann, web.client() as bob:
        change_people(tmp_path, oscar={"roles": ["admin"]})
        await reload_files(web)
        await sign_in(ann, web.tokens["ann"])
        await sign_in(bob, web.tokens["bob"])
        async with web.client() as client:
            denied = await client.post("/api/v1/sessions/end", json={"person": "ann"}, headers=web.bearer("bob"))
            ended = await client.post("/api/v1/sessions/end", json={"person": "ann"}, headers=web.bearer("oscar"))
        assert (denied.status_code, ended.status_code, ended.json()) == (403, 200, {"ended": 1})
        assert (await who(ann), await who(bob)) == (401, 200)
        assert "session.ended" in await web.audit_kinds()


async def test_a_copy_of_the_sessions_table_opens_no_session(web: WebService) -> None:
    """The table has only hashes of the cookies, so a copy opens no session."""
    async with web.client() as browser:
        await sign_in(browser, web.tokens["ann"])
        [session] = await web.context.store.read(sessions.list_open)
        assert session.id not in "".join(browser.cookies.values())


async def test_webhook_tokens_rotate_without_losing_an_alert(tmp_path: Path) -> None:
    """Without a restart, both tokens are accepted until the old one is removed."""
    for name in ("old", "new"):
        (tmp_path / f"{name}.token").write_text(f"the {name} token of Alertmanager")
    webhook = {"tokens": {"old": "old.token"}}
    async with web_service(tmp_path, webhook=webhook) as web, web.client() as client:

        async def send(name: str) -> int:
            headers = {"Authorization": f"Bearer the {name} token of Alertmanager"}
            return (await client.post("/api/v1/alerts", content=b"{}", headers=headers)).status_code

        unauthorized, accepted = 401, 400  # the body is not a notification, but the service checks the token first
        assert (await send("old"), await send("new")) == (accepted, unauthorized)
        settings = yaml.safe_load((tmp_path / "remediator.yaml").read_text())
        for tokens, expected in (
            ({"old": "old.token", "new": "new.token"}, (accepted, accepted)),
            ({"new": "new.token"}, (unauthorized, accepted)),
        ):
            settings["webhook"]["tokens"] = tokens
            (tmp_path / "remediator.yaml").write_text(yaml.safe_dump(settings))
            await reload_files(web)
            assert (await send("old"), await send("new")) == expected
        assert '"webhook_tokens":["new"]' in await web.audit_text()


@pytest.mark.parametrize("loss", [None, {"roles": ["viewer"]}, {"groups": []}], ids=["removed", "role", "group"])
async def test_a_vote_counts_only_while_its_person_has_the_right(
    web: WebService, tmp_path: Path, loss: dict[str, Any] | None
) -> None:
    """A decision does not count if its person has lost the right before the service acts."""
    asked = await web.request_approval(groups=("sre",))
    async with web.client() as client:
        await submit_decision(client, web.link(asked), "approve", token=web.tokens["ann"])
    assert (await web.state(asked)).status == "approved"
    change_people(tmp_path, ann=loss)
    await reload_files(web)
    await advance(web, asked.run_id)
    after = await web.state(asked)
    assert after.status == "void"
    assert "0 of 1 approvals count now" in (after.reason or "")


async def test_a_status_without_a_decision_starts_nothing(web: WebService) -> None:
    """If SQL sets the status of a request or adds a decision, this is not an approval."""
    asked = await web.request_approval()
    for statement in (
        f"UPDATE approvals SET status = 'approved' WHERE id = '{asked.id}'",
        "INSERT INTO decisions (approval_id, identity, verb, at, how) "
        f"VALUES ('{asked.id}', 'ann', 'approve', 1, 'token')",
    ):
        await web.context.store.write(lambda tx, sql=statement: tx.connection.exec_driver_sql(sql))
    await advance(web, asked.run_id)
    after = await web.state(asked)
    assert (after.status, "is not in the audit log" in (after.reason or "")) == ("void", True)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("UPDATE approvals SET quorum = 1", ""),
        ("", "UPDATE approvals SET quorum = 1"),
        ("", "UPDATE decisions SET break_glass = 1"),
        ("", "UPDATE decisions SET how = 'terminal'"),
    ],
)
async def test_a_quorum_and_break_glass_are_those_of_the_audit_log(web: WebService, before: str, after: str) -> None:
    """One decision is not enough for a quorum of two, even if SQL changes the request before or after it."""
    asked = await web.request_approval(quorum=2)
    await forge(web, before)
    async with web.client() as client:
        await submit_decision(client, web.link(asked), "approve", token=web.tokens["oscar"])
    await forge(web, after, "UPDATE approvals SET status = 'approved'")
    await advance(web, asked.run_id)
    found = await web.state(asked)
    assert (found.status, "of 2 approvals count now" in (found.reason or "")) == ("void", True), found.reason


async def test_the_groups_of_a_request_are_those_of_its_plan(web: WebService) -> None:
    """The approval of a person outside the groups does not count, even if SQL removed the groups before."""
    asked = await web.request_approval(groups=("sre",))
    await forge(web, "UPDATE approvals SET groups = '[]'")
    async with web.client() as client:
        await submit_decision(client, web.link(asked), "approve", token=web.tokens["eve"])
    assert (await web.state(asked)).status == "approved"
    await advance(web, asked.run_id)
    found = await web.state(asked)
    assert (found.status, "is not in a group" in (found.reason or "")) == ("void", True), found.reason


async def forge(web: WebService, *statements: str) -> None:
    """Run SQL statements beside the service."""
    for statement in filter(None, statements):
        await web.context.store.write(lambda tx, sql=statement: tx.connection.exec_driver_sql(sql))


async def advance(web: WebService, run_id: str) -> None:
    """Process the run in the approve stage, as a worker does."""

    def claim(tx: Tx) -> None:
        lease = {"lease_owner": "test", "lease_until": tx.now + timedelta(minutes=1)}
        tx.connection.execute(update(runs_table).where(runs_table.c.id == run_id).values(fence=9, **lease))

    await web.context.store.write(claim)
    run = await web.context.store.read(lambda connection: runs.get(connection, run_id))
    assert run is not None
    await await_approval(RunContext(web.context, run))
    assert await web.context.store.read(lambda connection: approvals.get_pending(connection, run_id)) is None
