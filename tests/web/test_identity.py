"""Identification of people by a real OpenID provider, Slack's signature, a proxy or tokens, and anonymous access."""

from __future__ import annotations

import hashlib
import hmac
import importlib.util
import json
import re
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import httpx
import pytest
import respx
from pydantic import ValidationError

from remediator.core.access_settings import Oidc
from remediator.core.approval import BUTTON, ApprovalLink, PermissionDenied, Person, Role
from remediator.core.identity import People
from remediator.core.notification_policy import Approvals
from remediator.core.tokens import Keyring, create_keyring, load_keyring
from remediator.errors import InputError
from remediator.pipeline import decisions, stop_commands
from remediator.pipeline.decisions import DecisionRequest
from remediator.storage.repositories import approvals, stops
from remediator.web.oidc import OidcClient
from tests.support.guard_history import NOON
from tests.support.servers import DEADLINE, Server
from tests.support.web_service import WebService, nonce_of, submit_decision, web_service

CALLBACK = "http://remediator.test/sign-in/oidc/back"


class Provider(Server):
    """A real OpenID provider with PKCE, keys and ID tokens by Authlib."""

    def command(self) -> list[str]:
        return [sys.executable, "-W", "ignore", "-m", "oidc_provider_mock", "--port", str(self.port)]


@pytest.fixture(scope="module")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run the provider on loopback."""
    if importlib.util.find_spec("oidc_provider_mock") is None:
        pytest.skip("needs oidc-provider-mock")
    server = Provider(tmp_path_factory.mktemp("provider"))
    try:
        server.start()
        yield f"http://localhost:{server.port}"
    finally:
        server.stop()


def _oidc(folder: Path, issuer: str) -> dict[str, Any]:
    (folder / "oidc.secret").write_text("any secret will do for this provider")
    settings = {"issuer": issuer, "client_id": "remediator", "client_secret_file": "oidc.secret"}
    return {"oidc": settings, "group_roles": {"sre": "approver"}}


async def _consent(address: str, who: str) -> str:
    """Sign in at the provider and return the redirect URL."""
    async with httpx.AsyncClient(timeout=DEADLINE) as browser:
        answer = await browser.post(address, data={"sub": who})
    assert answer.status_code in (302, 303), answer.text
    return answer.headers["location"]


@pytest.mark.promise(6)
async def test_signing_in_with_a_real_provider(tmp_path: Path, issuer: str) -> None:
    """A person signs in with code and PKCE and approves. The decision records the ID from the provider."""
    httpx.put(
        f"{issuer}/users/ann",
        json={"email": "ann@example.com", "email_verified": True, "groups": ["sre"]},
        timeout=DEADLINE,
    ).raise_for_status()
    async with web_service(tmp_path, access=_oidc(tmp_path, issuer)) as web:
        web.clock.time = NOON.fromtimestamp(time.time(), NOON.tzinfo)
        asked = await web.request_approval(groups=("sre",))
        async with web.client() as client:
            begun = await client.get(f"/sign-in/oidc?next=/approvals/{asked.id}")
            query = parse_qs(urlsplit(begun.headers["location"]).query)
            assert query["code_challenge_method"] == ["S256"] and query["response_type"] == ["code"]
            back = await _consent(begun.headers["location"], "ann")
            assert back.startswith(CALLBACK)
            done = await client.get(back)
            assert done.status_code == 303, done.text
            assert done.headers["location"] == f"/approvals/{asked.id}"
            assert (await client.get(back)).status_code == 400  # the attempt is used up
            assert (await submit_decision(client, f"/approvals/{asked.id}", "approve")).status_code == 303
        said = await web.context.store.read(lambda connection: approvals.list_decisions(connection, asked.id))
        assert [(item.identity, item.how) for item in said] == [("ann@example.com", "oidc")]


async def test_an_answer_to_another_sign_in_is_rejected(tmp_path: Path, issuer: str) -> None:
    """With a foreign state, another browser or no code, no session starts."""
    async with web_service(tmp_path, access=_oidc(tmp_path, issuer)) as web:
        web.clock.time = NOON.fromtimestamp(time.time(), NOON.tzinfo)
        async with web.client() as victim, web.client() as attacker:
            begun = await attacker.get("/sign-in/oidc")
            back = await _consent(begun.headers["location"], "mallory")
            await victim.get("/sign-in/oidc")
            for browser, path in ((victim, back), (victim, re.sub(r"code=[^&]*&?", "", back)), (web.client(), back)):
                assert (await browser.get(path)).status_code in (400, 403)
                assert "remediator_session" not in browser.cookies
            wrong = re.sub(r"code=[^&]*", "code=guessed", back)
            assert (await attacker.get(wrong)).status_code == 403


SECRET = "slack-signing-secret"


def _press(
    web: WebService,
    verb: str,
    user: str,
    asked: Any,
    *,
    at: float | None = None,
    key: str = SECRET,
    pressed: str = "1.1",
) -> dict[str, Any]:
    link = ApprovalLink(asked.id, asked.run_id, asked.plan_hash, "channel:chat", asked.expires_at)
    value = link.token(web.service.keyring, web.clock.now(), BUTTON)
    payload = {
        "type": "block_actions",
        "team": {"id": "T01"},
        "user": {"id": user, "name": "ann"},
        "actions": [{"action_id": f"remediator.{verb}", "value": value, "action_ts": pressed}],
    }
    body = f"payload={quote(json.dumps(payload))}"
    stamp = str(int(web.clock.now().timestamp() if at is None else at))
    mac = hmac.new(key.encode(), f"v0:{stamp}:{body}".encode(), hashlib.sha256).hexdigest()
    headers = {"X-Slack-Request-Timestamp": stamp, "X-Slack-Signature": f"v0={mac}"}
    return {"content": body, "headers": headers | {"Content-Type": "application/x-www-form-urlencoded"}}


@pytest.mark.promise(6)
async def test_slack_buttons_count_once_for_known_people(tmp_path: Path) -> None:
    """A recent, signed click of a known person counts once, however often it is repeated."""
    (tmp_path / "slack.secret").write_text(SECRET)
    async with web_service(tmp_path, access={"slack": {"signing_secret_file": "slack.secret"}}) as web:
        asked = await web.request_approval()
        path, now = "/api/v1/slack/interactions", web.clock.now().timestamp()
        async with web.client() as client:
            forged = _press(web, "approve", "U00", asked, key="guessed")
            old = _press(web, "approve", "U00", asked, at=now - 301)
            for bad in (forged, old, {"content": "payload={}"}):
                assert (await client.post(path, **bad)).status_code == 401
            before = await web.head()  # the audit log has the refusals
            stranger = await client.post(path, **_press(web, "approve", "U99", asked))
            assert stranger.status_code == 200 and await web.head() == before
            for _ in range(3):
                assert (await client.post(path, **_press(web, "approve", "U00", asked))).status_code == 200
        said = await web.context.store.read(lambda connection: approvals.list_decisions(connection, asked.id))
        assert [(item.identity, item.how, item.verb) for item in said] == [("ann", "slack", "approve")]


@pytest.mark.promise(10)
async def test_a_repeated_slack_click_creates_one_stop(tmp_path: Path) -> None:
    """A repeated or replayed click creates no second stop, even after a release."""
    (tmp_path / "slack.secret").write_text(SECRET)
    async with web_service(tmp_path, access={"slack": {"signing_secret_file": "slack.secret"}}) as web:
        asked = await web.request_approval()

        async def standing() -> list[stops.Stop]:
            return await web.context.store.read(lambda connection: stops.list_active(connection, web.clock.now()))

        async with web.client() as client:
            for _ in range(3):
                await client.post("/api/v1/slack/interactions", **_press(web, "pause", "U00", asked))
            [stop] = await standing()
            oscar = Person("oscar", "token", frozenset({Role.OPERATOR}))
            await web.context.store.write(lambda tx: stop_commands.release_stop(tx, oscar, stop.id))
            await client.post("/api/v1/slack/interactions", **_press(web, "pause", "U00", asked))
            assert not await standing(), "a replay does not stop what somebody has released"
            again = _press(web, "pause", "U00", asked, pressed="2.2")
            await client.post("/api/v1/slack/interactions", **again)
            assert len(await standing()) == 1, "a new press does"


@pytest.mark.promise(10)
async def test_a_double_click_creates_one_stop(tmp_path: Path) -> None:
    """A double click creates one stop. Another reason, or a click a minute later, creates another stop."""
    async with web_service(tmp_path) as web:
        ann = Person("ann", "token", frozenset({Role.APPROVER}))
        write = web.context.store.write
        first = await write(lambda tx: stop_commands.create_stop(tx, ann, "migration"))
        assert await write(lambda tx: stop_commands.create_stop(tx, ann, "migration")) == first
        assert await write(lambda tx: stop_commands.create_stop(tx, ann, "something else")) != first
        web.clock.time += timedelta(minutes=1)
        assert await write(lambda tx: stop_commands.create_stop(tx, ann, "migration")) != first


@pytest.mark.promise(6)
@pytest.mark.parametrize("other", ["Ann@Example.com", " ann@example.com", "\uff21\uff2e\uff2e@example.com"])
async def test_ids_that_differ_in_case_are_one_person(tmp_path: Path, other: str) -> None:
    """Two spellings of an ID are one person: for the quorum, and when a requester approves their own run."""
    async with web_service(tmp_path) as web:
        roles = frozenset({Role.APPROVER})
        asked = await web.request_approval(quorum=2)
        for person in (Person("ann@example.com", "slack", roles), Person(other, "oidc", roles)):
            word = DecisionRequest(asked.id, asked.plan_hash, "approve", person)
            await web.context.store.write(lambda tx, word=word: decisions.decide(tx, word, Approvals()))
        assert (await web.state(asked)).status == "pending"
        own = await web.request_approval()
        await web.context.store.write(lambda tx: approvals.set_requester(tx, own.run_id, "ann@example.com"))
        word = DecisionRequest(own.id, own.plan_hash, "approve", Person(other, "oidc", roles))
        with pytest.raises(PermissionDenied, match="another person must approve"):
            await web.context.store.write(lambda tx: decisions.decide(tx, word, Approvals()))


def test_the_people_file_rejects_ids_that_differ_in_case() -> None:
    """The people file cannot have two spellings of one ID."""
    with pytest.raises(ValidationError, match="are the same ID"):
        People.model_validate({"people": {"ann@example.com": {}, "Ann@example.com": {}}})


@pytest.mark.parametrize("verified", [False, "false", "no", None, 0])
def test_an_unverified_address_is_rejected(verified: Any) -> None:
    """Every form of "not verified" is rejected, and so is a missing claim."""
    client = OidcClient(Oidc(issuer="https://id.example.com", client_id="remediator"), CALLBACK)
    with pytest.raises(InputError, match="not verified"):
        client._identity({"email": "ann@example.com", "email_verified": verified})
    with pytest.raises(InputError, match="not verified"):
        client._identity({"email": "ann@example.com"})
    for fine in ({"email_verified": True}, {"email_verified": "true"}):
        assert client._identity({"email": "ann@example.com", **fine}).id == "ann@example.com"


@pytest.mark.parametrize(
    ("token", "keys"),
    [([], {}), ({"id_token": 7}, {}), ({"id_token": "a.b.c"}, []), ({"id_token": "a.b.c"}, {"keys": 3}), (None, {})],
)
async def test_invalid_answers_of_a_provider_are_reported(tmp_path: Path, token: Any, keys: Any) -> None:
    """Without endpoints, token or keys, the page shows an error and no session starts."""
    base = "https://id.example.com"
    names = ("authorization_endpoint", "token_endpoint", "jwks_uri")
    told = {"issuer": base} | ({} if token is None else {name: f"{base}/{name}" for name in names})
    async with web_service(tmp_path, access=_oidc(tmp_path, base)) as web, web.client() as client:
        with respx.mock(assert_all_called=False) as router:
            router.get(f"{base}/.well-known/openid-configuration").respond(json=told)
            router.post(f"{base}/token_endpoint").respond(json=token)
            router.get(f"{base}/jwks_uri").respond(json=keys)
            answer = await client.get("/sign-in/oidc")
            if token is not None:
                state = parse_qs(urlsplit(answer.headers["location"]).query)["state"][0]
                answer = await client.get(f"/sign-in/oidc/back?code=c&state={state}")
        assert answer.status_code == (502 if token is None else 403)
        assert 'role="alert"' in answer.text and "remediator_session" not in client.cookies


async def test_unicode_digits_are_not_numbers(tmp_path: Path) -> None:
    """Unicode digits that int() rejects cause no internal error."""
    (tmp_path / "slack.secret").write_text(SECRET)
    async with web_service(tmp_path, access={"slack": {"signing_secret_file": "slack.secret"}}) as web:
        asked = await web.request_approval()
        async with web.client() as client:
            for path in ("/runs?before=²~x", "/audit?before=²", "/audit?before=" + "9" * 17):
                assert (await client.get(path)).status_code == 200, path
            assert (await client.get("/api/v1/runs?limit=²")).status_code in (400, 422)
            stamp = {"X-Slack-Request-Timestamp": b"\xb2", "X-Slack-Signature": b"v0=x"}
            assert (await client.post("/api/v1/slack/interactions", content=b"x", headers=stamp)).status_code == 401
            await client.get(web.link(asked))
            for nonce in ("².x", "999999999999.x", "-1.x", ""):
                said = {"nonce": nonce, "verb": "approve", "token": web.tokens["ann"]}
                assert (await client.post(web.link(asked), data=said)).status_code == 403, nonce


async def test_a_form_after_the_session_ended_is_explained(tmp_path: Path) -> None:
    """The page says that nothing was changed. After sign-in, the person returns to the page with its filters."""
    async with web_service(tmp_path, access={"anonymous_role": "none"}) as web:
        asked = await web.request_approval()
        async with web.client() as client:
            back = await client.get("/runs?status=failed&q=a%26b")
            page = await client.get(back.headers["location"])
            assert 'value="/runs?status=failed&amp;q=a%26b"' in page.text
            said = {"nonce": nonce_of(page.text), "token": web.tokens["oscar"], "next": "/"}
            await client.post("/sign-in", data=said)
            nonce = nonce_of((await client.get("/")).text)
            del client.cookies["remediator_session"]
            for path, leads in (("/stop", "/"), (f"/runs/{asked.run_id}/cancel", f"/runs/{asked.run_id}")):
                answer = await client.post(path, data={"nonce": nonce, "reason": "x"})
                assert answer.status_code == 303
                told = (await client.get(answer.headers["location"])).text
                assert "Nothing was changed" in told and f'value="{leads}"' in told, path


async def test_a_proxy_header_counts_only_from_its_address(tmp_path: Path) -> None:
    """The header from another address, or sent twice, is ignored."""
    proxy = {"addresses": ["192.0.2.7"], "header": "X-User", "groups_header": "X-Groups"}
    async with web_service(tmp_path, access={"proxy": proxy}) as web:
        said = {"X-User": "ann"}
        async with web.client() as inside, web.client(client=("198.51.100.9", 1)) as outside:
            assert "identified by proxy" in (await inside.get("/", headers=said)).text
            assert "identified by proxy" not in (await outside.get("/", headers=said)).text
            twice = [("X-User", "ann"), ("X-User", "oscar")]
            assert "identified by proxy" not in (await inside.get("/", headers=twice)).text
            forged = {**said, "X-Forwarded-For": "192.0.2.7", "Forwarded": "for=192.0.2.7", "X-Real-IP": "192.0.2.7"}
            assert "identified by proxy" not in (await outside.get("/", headers=forged)).text
        async with web.client(client=("::ffff:192.0.2.7", 1)) as both:  # a socket for IPv4 and IPv6
            assert "identified by proxy" in (await both.get("/", headers=said)).text


async def test_anonymous_callers_see_nothing_if_access_is_off(tmp_path: Path) -> None:
    """Pages redirect to the sign-in, and the API answers 401. Health endpoints stay open."""
    async with web_service(tmp_path, access={"anonymous_role": "none"}) as web:
        asked = await web.request_approval()
        async with web.client() as client:
            for path in ("/", "/runs", f"/runs/{asked.run_id}", "/audit", "/inventory", "/playbooks", "/events"):
                answer = await client.get(path)
                assert (answer.status_code, answer.headers["location"][:8]) == (303, "/sign-in"), path
            assert (await client.get("/api/v1/runs")).status_code == 401
            assert (await client.get("/livez")).status_code == 200
            page = await client.get("/sign-in")
            said = {"nonce": nonce_of(page.text), "token": web.tokens["victor"], "next": "//evil.example"}
            signed = await client.post("/sign-in", data=said)
            assert signed.headers["location"] == "/"
            assert (await client.get("/")).status_code == 200
            assert (await client.post("/stop", data={"nonce": said["nonce"], "reason": "no"})).status_code == 403


def test_tokens_rotate_and_expire_and_never_crash(tmp_path: Path) -> None:
    """Old keys verify and removed keys do not. A malformed token, or one for another time or purpose, is invalid."""
    old, new = Keyring([b"o" * 32]), Keyring([b"n" * 32, b"o" * 32])
    token = old.sign("link", {"a": 1}, NOON, NOON + timedelta(minutes=15))
    read = new.read("link", token, NOON)
    assert read is not None and read.content == {"a": 1} and not read.expired(NOON)
    assert read.expired(NOON + timedelta(minutes=15))
    assert Keyring([b"n" * 32]).read("link", token, NOON) is None
    assert new.read("session", token, NOON) is None
    assert new.read("link", token, NOON - timedelta(minutes=5)) is None
    for rubbish in ("", ".", "..", "a.b.c", token + "=", token.upper(), "é" * 50, "x" * 10_000, token.replace(".", "")):
        assert new.read("link", rubbish, NOON) is None
    create_keyring(tmp_path / "links.key")
    made = load_keyring(tmp_path / "links.key")
    assert (tmp_path / "links.key").stat().st_mode & 0o777 == 0o600
    assert load_keyring(tmp_path / "links.key").read("x", made.sign("x", {}, NOON, NOON), NOON) is not None
