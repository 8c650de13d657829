"""Each additional source has an endpoint with its own path, credentials and limits."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from remediator.storage.schema import notifications
from tests.support.servers import grafana
from tests.support.web_service import WebService, web_service

BODY = grafana.notification(alertname="RedisDown")
SOURCES: dict[str, Any] = {
    "grafana": {
        "kind": "grafana",
        "hmac": {
            "secret_files": ["hmac"],
            "header": "X-Grafana-Alerting-Signature",
            "timestamp_header": "X-Grafana-Alerting-Timestamp",
            "max_age": "3650d",  # the clock of these tests does not move
        },
    },
    "sns": {
        "kind": "json",
        "basic": {"username": "sns", "password_file": "password"},
        "max_body": 2048,
        "mapping": {"status": '"firing"', "labels": {"alertname": "body.name"}},
    },
}


@pytest.fixture
async def web(tmp_path: Path) -> AsyncIterator[WebService]:
    (tmp_path / "hmac").write_text(grafana.SECRET)
    (tmp_path / "password").write_text("the-password-of-sns")
    (tmp_path / "token").write_text("the-token-of-alertmanager")
    async with web_service(tmp_path, sources=SOURCES, webhook={"token_file": "token"}) as made:
        yield made


async def stored(web: WebService) -> list[tuple[str, bytes]]:
    query = select(notifications.c.source, notifications.c.body).order_by(notifications.c.id)
    return [tuple(row) for row in await web.context.store.read(lambda connection: connection.execute(query).all())]


@pytest.mark.promise(1)
async def test_each_source_has_its_path_and_its_credentials(web: WebService) -> None:
    """An acknowledged body is stored unchanged with the name of the source, which the metric has too."""
    alertmanager = b'{"version": "4", "alerts": []}'
    async with web.client() as client:
        answers = [
            await client.post("/api/v1/alerts/grafana", content=BODY, headers=grafana.signed(BODY)),
            await client.post("/api/v1/alerts/sns/", content=b'{"name": "A"}', auth=("sns", "the-password-of-sns")),
            await client.post(
                "/api/v1/alerts",
                content=alertmanager,
                headers={"Authorization": "Bearer the-token-of-alertmanager"},
            ),
        ]
        metrics = (await client.get("/metrics", headers=web.bearer("ann"))).text
    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert await stored(web) == [("grafana", BODY), ("sns", b'{"name": "A"}'), ("alertmanager", alertmanager)]
    for source in ("alertmanager", "grafana", "sns"):
        line = f'remediator_notifications_total{{code="200",result="accepted",source="{source}"}} 1.0'
        assert line in metrics


@pytest.mark.parametrize(
    ("path", "body", "given", "status"),
    [
        ("grafana", BODY, {}, 401),
        ("grafana", BODY + b" ", grafana.signed(BODY), 401),
        ("grafana", BODY, grafana.signed(BODY, "another-secret"), 401),
        ("grafana", BODY, grafana.signed(BODY, at=1.0), 401),
        ("grafana", BODY, {"Authorization": "Bearer the-token-of-alertmanager"}, 401),
        ("grafana", b'{"version": "4", "alerts": []}', None, 400),
        ("sns", b"{", {"Authorization": "Basic c25zOnRoZS1wYXNzd29yZC1vZi1zbnM="}, 400),
        ("sns", b'"' + b"x" * 2048 + b'"', {"Authorization": "Basic c25zOnRoZS1wYXNzd29yZC1vZi1zbnM="}, 413),
        ("other", BODY, grafana.signed(BODY), 404),
    ],
)
async def test_what_is_wrong_is_refused_and_not_stored(
    web: WebService, path: str, body: bytes, given: dict[str, str] | None, status: int
) -> None:
    """A missing, wrong or old signature, credentials of another source, and an invalid body are refused."""
    async with web.client() as client:
        headers = grafana.signed(body) if given is None else given
        answer = await client.post(f"/api/v1/alerts/{path}", content=body, headers=headers)
    assert answer.status_code == status
    assert await stored(web) == []


async def test_a_sender_with_a_password_gets_a_challenge(web: WebService) -> None:
    """A request without password gets a challenge, because SNS sends its password only after one."""
    async with web.client() as client:
        answer = await client.post("/api/v1/alerts/sns", content=b"{}")
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, 'Basic realm="remediator"')


async def test_a_browser_cannot_be_made_to_send_an_alert(web: WebService) -> None:
    """A page of another site that knows the path cannot post, even if the browser knows the password."""
    async with web.client() as client:
        headers = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
        auth = ("sns", "the-password-of-sns")
        answer = await client.post("/api/v1/alerts/sns", content=b'{"name": "A"}', headers=headers, auth=auth)
    assert answer.status_code == 403
    assert await stored(web) == []
