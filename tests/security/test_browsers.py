"""A place in the network is not an identity: cross-site requests, DNS rebinding and proxies on the same host."""

from __future__ import annotations

import stat
from pathlib import Path

import httpx
import pytest

from remediator.runtime.access import AccessControl
from remediator.web.application import webhook_paths
from remediator.web.browser_checks import BrowserChecks
from tests.support.servers.remediator import Remediator
from tests.support.web_service import INVENTORY, WebService, web_service

pytestmark = pytest.mark.promise(6)


def test_the_first_start_creates_a_webhook_token(tmp_path: Path) -> None:
    """Without credentials in the settings, a notification without the token gets 401, even on loopback.

    The log names the file of the token. Only a terminal shows the token itself: see tests/cli/test_terminal.py.
    """
    service = Remediator(tmp_path)
    service.inventory["services"] = INVENTORY["services"]
    del service.settings["webhook"]
    service.start()
    try:
        file = tmp_path / "state" / "webhook.token"
        token = file.read_text().strip()
        assert stat.S_IMODE(file.stat().st_mode) == 0o600 and len(token) >= 40
        assert str(file) in service.log and token not in service.log
        body = service.notification("firing", alertname="Other")
        assert service.post(body, token=None)[0] == 401
        assert service.post(body, token=token)[0] == 200
    finally:
        service.stop()


@pytest.mark.parametrize("host", ["evil.example.com", "evil.example.com:8095", "", "remediator.test.evil.com"])
async def test_another_host_name_is_refused(web: WebService, host: str) -> None:
    """A foreign host name that points at this address gets no page, no API and no metrics."""
    async with web.client() as client:
        for path in ("/", "/api/v1/runs", "/metrics", "/sign-in"):
            assert (await client.get(path, headers={"Host": host})).status_code == 421, path


@pytest.mark.parametrize(
    "host", ["remediator.test", "127.0.0.1:8095", "[::1]:8095", "localhost", "remediator:8095", "remediator.ns.svc"]
)
async def test_own_host_names_are_accepted(web: WebService, host: str) -> None:
    """IP addresses, the host of the public URL and names without public DNS are accepted."""
    async with web.client() as client:
        assert (await client.get("/metrics", headers={"Host": host})).status_code == 200


async def test_further_host_names_are_a_setting(tmp_path: Path) -> None:
    """The setting access.hosts adds host names."""
    async with web_service(tmp_path, access={"hosts": ["ops.example.com"]}) as web, web.client() as client:
        assert (await client.get("/metrics", headers={"Host": "ops.example.com"})).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [{"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {"Origin": "https://evil.example.com"},
     {"Origin": "null"}],
)  # fmt: skip
async def test_changes_from_other_sites_are_refused(web: WebService, headers: dict[str, str]) -> None:
    """A change from another site is refused at every endpoint, even with a valid operator token."""
    async with web.client() as client:
        for path in ("/api/v1/stops", "/sign-in", "/sign-out", "/stop", "/api/v1/slack/interactions"):
            answer = await client.post(path, json={"reason": "x"}, headers=headers | web.bearer("ann"))
            assert answer.status_code == 403, path
    assert "stop.set" not in await web.audit_kinds()


@pytest.mark.parametrize(
    ("public_url", "allowed"),
    [("", True), ("http://localhost:8095", True), ("https://remediator.example.com", False)],
)
async def test_auto_follows_the_public_url(tmp_path: Path, public_url: str, allowed: bool) -> None:
    """With a public URL of another host, a proxy makes every request look local, so the console needs a sign-in."""
    async with web_service(tmp_path, public_url=public_url, access={"anonymous_role": "auto"}) as web:
        assert web.service.config.anonymous_read_allowed is allowed


async def test_https_gets_hsts_and_host_cookies(tmp_path: Path) -> None:
    """With HTTPS, cookies of a subdomain or of plain HTTP are not accepted."""
    async with web_service(tmp_path, public_url="https://remediator.test") as web, web.client() as client:
        answer = await client.get("/sign-in")
    assert "max-age=" in answer.headers["strict-transport-security"]
    assert "__Host-remediator_browser=" in answer.headers["set-cookie"]


async def test_every_answer_forbids_sniffing(web: WebService) -> None:
    """Every answer forbids content sniffing, also static files, metrics and probes."""
    async with web.client() as client:
        for path in ("/static/icon.svg", "/metrics", "/livez", "/no-such-page", "/api/v1/openapi.json"):
            assert (await client.get(path)).headers["x-content-type-options"] == "nosniff", path


def test_an_application_behind_the_checks_is_not_reached() -> None:
    """The checks of host and origin come before the router."""
    checks = BrowserChecks(AccessControl.load, "https://a.example", (), True)  # type: ignore[arg-type]
    assert not checks.is_own_host("b.example") and checks.is_own_host("A.example:443")
    assert httpx.URL("https://a.example").host == "a.example"


@pytest.mark.parametrize(
    "hosts",
    [("localhost", "evil.example"), ("evil.example", "localhost"), ("localhost:1@evil.example",), ("local host",)],
)
async def test_several_hosts_or_a_malformed_one_are_refused(web: WebService, hosts: tuple[str, ...]) -> None:
    """Several Host headers or a malformed one are refused, because a proxy could read another host than the service."""
    async with web.client() as client:
        answer = await client.get("/runs", headers=[("Host", host) for host in hosts])
    assert answer.status_code == 421


@pytest.mark.parametrize("path", webhook_paths("alertmanager"))
@pytest.mark.parametrize(
    "sent", [{"Origin": "http://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}], ids=str
)
async def test_a_page_of_another_site_cannot_post_a_notification(
    web: WebService, path: str, sent: dict[str, str]
) -> None:
    """The headers of a page on another site are refused even with the right token. Alertmanager sends none of them."""
    token = (web.service.config.state / "webhook.token").read_text().strip()
    right = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    body = b'{"version": "4", "receiver": "remediator", "alerts": []}'
    async with web.client() as client:
        assert (await client.post(path, content=body, headers=right)).status_code == 200
        assert (await client.post(path, content=body, headers={**right, **sent})).status_code == 403
        named = {**right, **sent, "Host": "evil.example", "Origin": "http://evil.example"}
        assert (await client.post(path, content=body, headers=named)).status_code == 421
