"""Sessions are stored in Redis under the cookie of the browser, and end at logout, at the next login or by time."""

import re
from http.cookies import Morsel, SimpleCookie
from pathlib import Path

import httpx
import pytest

from tests.app.conftest import LocalApp, connect, running_app, settings_for
from tests.support.servers.redis import Redis


def morsel_of(answer: httpx.Response) -> "Morsel[str]":
    return SimpleCookie(answer.headers["set-cookie"])["session_id"]


async def log_in(app: LocalApp, username: str = "ada") -> str:
    answer = await app.client.post("/login", json={"username": username})
    assert answer.status_code == 200
    return morsel_of(answer).value


@pytest.mark.parametrize(
    ("changes", "secure"), [({}, ""), ({"session_cookie_secure": True}, True), ({"app_env": "production"}, True)]
)
async def test_the_cookie_has_safe_attributes(
    redis_server: Redis, tmp_path: Path, changes: dict[str, object], secure: object
) -> None:
    """The cookie is HttpOnly and SameSite=Lax, valid for the whole site and session, and Secure if so configured."""
    async with running_app(settings_for(redis_server, tmp_path, session_ttl=120, **changes)) as app:
        cookie = morsel_of(await app.client.post("/login", json={"username": "ada"}))
        assert (cookie["httponly"], cookie["samesite"], cookie["path"]) == (True, "lax", "/")
        assert (cookie["max-age"], cookie["secure"]) == ("120", secure)
        with connect(redis_server) as client:
            assert 60 <= client.ttl(f"session:{cookie.value}") <= 120


async def test_login_then_me(local_app: LocalApp) -> None:
    """/me returns the user after the login and 401 before it."""
    assert (await local_app.client.get("/me")).status_code == 401
    await log_in(local_app, "grace")
    assert (await local_app.client.get("/me")).json()["username"] == "grace"


async def test_logout_deletes_the_session_and_the_cookie(local_app: LocalApp, redis_server: Redis) -> None:
    """Logout deletes the key in Redis and the cookie, so a copied session ID is useless."""
    session_id = await log_in(local_app)
    answer = await local_app.client.post("/logout")
    assert (answer.status_code, morsel_of(answer)["max-age"]) == (204, "0")
    with connect(redis_server) as client:
        assert not client.exists(f"session:{session_id}")
    copied = await local_app.client.get("/me", headers={"cookie": f"session_id={session_id}"})
    assert copied.status_code == 401
    assert (await local_app.client.post("/logout")).status_code == 204


async def test_login_changes_the_id(local_app: LocalApp, redis_server: Redis) -> None:
    """A second login creates a new ID and ends the old session, which prevents session fixation."""
    old = await log_in(local_app)
    new = await log_in(local_app)
    assert re.fullmatch(r"[\w-]{43}", new) and new != old
    with connect(redis_server) as client:
        assert (client.exists(f"session:{old}"), client.exists(f"session:{new}")) == (0, 1)


async def test_lost_session_is_counted(local_app: LocalApp, redis_server: Redis) -> None:
    """A cookie without a session in Redis gets 401 and is counted. Many of them show that sessions were lost."""
    await log_in(local_app)
    with connect(redis_server) as client:
        client.flushall()
    assert (await local_app.client.get("/me")).status_code == 401
    assert local_app.figure("sessions_total", event="unknown") == 1


@pytest.mark.parametrize("cookie", ["x", "a" * 44, "../../etc", "*" * 43, "item:1", "%0a" * 20])
async def test_malformed_cookie_is_no_session(local_app: LocalApp, cookie: str) -> None:
    """A cookie that the app did not create never becomes a key in Redis."""
    answer = await local_app.client.get("/me", headers={"cookie": f"session_id={cookie}"})
    assert answer.status_code == 401
    assert local_app.figure("sessions_total", event="unknown") == 0


@pytest.mark.parametrize("name", ["", "A", "a b", "a\n", "-a", "a" * 33, 7, None])
async def test_username_is_checked(local_app: LocalApp, name: object) -> None:
    """A user name is short, lower-case and printable. Any other name gets 422."""
    assert (await local_app.client.post("/login", json={"username": name})).status_code == 422
