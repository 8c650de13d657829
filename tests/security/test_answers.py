"""Headers and contents of all answers: the required ones, and what they must not reveal."""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.support.web_service import web_service

pytestmark = pytest.mark.promise(11)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/static/app.css"),
        ("GET", "/static/nothing.css"),
        ("GET", "/metrics"),
        ("GET", "/livez"),
        ("GET", "/readyz"),
        ("GET", "/"),
        ("GET", "/api/v1/runs"),
        ("GET", "/nothing"),
        ("POST", "/api/v1/alerts"),
        ("DELETE", "/api/v1/runs"),
        ("GET", "/favicon.ico"),
    ],
)
async def test_every_answer_forbids_to_guess_its_type(web: Any, method: str, path: str) -> None:
    """Every answer forbids content sniffing, also static files, metrics, probes, errors and the webhook."""
    async with web.client() as client:
        answer = await client.request(method, path)
    assert answer.headers["x-content-type-options"] == "nosniff"


async def test_a_missing_secret_file_is_503_and_not_named_to_the_caller(tmp_path: Path) -> None:
    """The answer does not name a missing secret file. The log of the service does."""
    secret = tmp_path / "slack-signing"
    secret.write_text("signing")
    settings = {"slack": {"signing_secret_file": str(secret)}}
    async with web_service(tmp_path, access=settings) as web, web.client() as client:
        secret.unlink()
        answer = await client.post("/api/v1/slack/interactions", content=b"payload={}")
    assert answer.status_code == 503
    assert "slack-signing" not in answer.text
    assert "See the service's log" in answer.text


async def test_a_signature_with_a_present_secret_is_checked(tmp_path: Path) -> None:
    """If the secret exists, a right signature is accepted, so the test above fails for no other reason."""
    secret = tmp_path / "slack-signing"
    secret.write_text("signing")
    settings = {"slack": {"signing_secret_file": str(secret)}}
    async with web_service(tmp_path, access=settings) as web, web.client() as client:
        body = urlencode({"payload": "{}"}).encode()
        stamp = str(int(web.clock.now().timestamp()))
        made = hmac.new(b"signing", b"v0:" + stamp.encode() + b":" + body, hashlib.sha256).hexdigest()
        headers = {"X-Slack-Request-Timestamp": stamp, "X-Slack-Signature": f"v0={made}"}
        answer = await client.post("/api/v1/slack/interactions", content=body, headers=headers)
    assert answer.status_code in (200, 400)


@pytest.mark.parametrize(
    "path", ["/static/%2e%2e/site.py", "/static//etc/passwd", "/static/..%2fsite.py", "/static/%00"]
)
async def test_static_files_are_those_of_the_package_only(web: Any, path: str) -> None:
    """The service serves only static files of the package."""
    async with web.client() as client:
        assert (await client.get(path)).status_code == 404


async def test_a_caller_is_checked_before_the_body(web: Any) -> None:
    """The service checks the caller before it reads the body, also where everyone may read without sign-in."""
    async with web.client() as client:
        assert (await client.post("/api/v1/sessions/end", content=b"{")).status_code == 401
