"""The webhook endpoint: the answer to each kind of body, and no body that harms the service."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.servers import until
from tests.support.servers.remediator import PLAYBOOK, TOKEN, Remediator

pytestmark = pytest.mark.process

ALERT: dict[str, Any] = {
    "status": "firing",
    "labels": {"alertname": "Nothing", "instance": "a"},
    "annotations": {},
    "startsAt": "2026-01-01T00:00:00.123456789Z",
    "endsAt": "0001-01-01T00:00:00Z",
}


def notification(*alerts: dict[str, Any], **fields: Any) -> bytes:
    """Return a body of version 4."""
    return json.dumps({"version": "4", "receiver": "team\\.redis", "alerts": list(alerts), **fields}).encode()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Remediator]:
    """Return a remediator without playbooks."""
    made = Remediator(tmp_path_factory.mktemp("remediator"))
    made.playbooks = []
    made.start()
    yield made
    made.stop()


GOOD = {
    "one alert": notification(ALERT),
    "an empty group": notification(),
    "the same alert twice": notification(ALERT, ALERT),
    "unknown fields": notification({**ALERT, "new": {"x": [1]}}, notification_reason="repeat", routeLabels={"a": "b"}),
    "a wrong value in a field that is not read": notification(ALERT, commonLabels=None, groupKey=7),
    "a time before year 1 in UTC": notification({**ALERT, "startsAt": "0001-01-01T00:00:00+05:00"}),
    "a time after year 9999": notification({**ALERT, "startsAt": "20260-01-01T00:00:00Z"}),
    "a resolved alert that never fired": notification(
        {**ALERT, "status": "resolved", "endsAt": "9999-12-31T23:59:59Z"}
    ),
}

BAD = {
    "no body": (b"", 400, "malformed JSON"),
    "half a body": (b'{"version": "4", "alerts": [', 400, "malformed JSON"),
    "not text": (b"\xff\xfe\x00", 400, "malformed JSON"),
    "an array": (b"[]", 400, "Expected `object`, got `array`"),
    "no version": (b'{"alerts": []}', 400, "missing required field `version`"),
    "version as a number": (b'{"version": 4, "alerts": []}', 400, "Expected `str`, got `int` - at `$.version`"),
    "version 3": (b'{"version": "3", "alerts": []}', 400, "unsupported version '3'"),
    "no alerts": (b'{"version": "4"}', 400, "missing required field `alerts`"),
    "alerts as text": (b'{"version": "4", "alerts": "all"}', 400, "Expected `array`, got `str` - at `$.alerts`"),
    "a label as a number": (notification({**ALERT, "labels": {"a": 1}}), 400, "$.alerts[0].labels[...]"),
    "no labels": (notification({**ALERT, "labels": {}}), 400, "$.alerts[0].labels is empty"),
    "a status of its own": (notification({**ALERT, "status": "melting"}), 400, "Invalid enum value 'melting'"),
    "a time that is none": (
        notification({**ALERT, "startsAt": "yesterday"}),
        400,
        "startsAt is not an RFC",
    ),
    "a time without a zone": (notification({**ALERT, "endsAt": "2026-01-01T00:00:00"}), 400, "has no time zone"),
    "deep nesting": (b'{"version": "4", "alerts": [], "x": ' + b"[" * 200_000, 400, "nested too deeply"),
    "too many alerts": (notification(*[ALERT] * 50_001), 413, "longer than"),
}


@pytest.mark.parametrize("case", GOOD)
def test_every_valid_body_of_alertmanager_is_accepted(service: Remediator, case: str) -> None:
    """Any body of version 4 is accepted, also with unknown fields and unusual times."""
    assert service.post(GOOD[case]) == (200, {"status": "accepted"})


@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_one_line_that_says_what_and_where(service: Remediator, case: str) -> None:
    """A body that stays invalid in a retry gets a 4xx with one line of JSON that names the error and its place."""
    body, status, message = BAD[case]

    got, answer = service.post(body)

    assert got == status
    assert message in answer["error"]
    assert "\n" not in answer["error"]


def test_fifty_megabytes_are_refused_and_not_kept(service: Remediator) -> None:
    """A body far above the limit gets a complete 413, and its memory is released."""
    before = service.memory()

    status, answer = service.post(b" " * 50 * 1024 * 1024)

    assert status == 413
    assert "max_alerts" in answer["error"]
    assert service.memory() - before < 25_000_000


def test_fifty_megabytes_in_chunks_are_refused_too(service: Remediator) -> None:
    """The limit also applies to a body without a length."""
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=60)
    pieces = (b" " * 1024 * 1024 for _ in range(50))
    connection.request("POST", "/api/v1/alerts", pieces, {"Authorization": f"Bearer {TOKEN}"}, encode_chunked=True)

    assert connection.getresponse().status == 413
    connection.close()


@pytest.mark.parametrize("token", [None, "wrong", ""])
def test_a_notification_without_the_token_is_refused(service: Remediator, token: str | None) -> None:
    """Missing or wrong credentials get 401, and nothing is stored."""
    status, answer = service.post(notification(ALERT), token=token)

    assert status == 401
    assert "credentials" in answer["error"]


def test_a_trailing_slash_is_accepted_without_a_redirect(service: Remediator) -> None:
    """Without this, Alertmanager would follow a redirect with a GET and lose the alert."""
    assert service.post(notification(ALERT), "/api/v1/alerts/")[0] == 200


def test_other_methods_are_refused(service: Remediator) -> None:
    """Any method except POST is refused."""
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=60)
    connection.request("GET", "/api/v1/alerts")
    assert connection.getresponse().status == 405
    connection.close()


def test_a_broken_connection_is_not_logged(service: Remediator) -> None:
    """A connection that closes within a body is not logged as an error."""
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=60)
    connection.putrequest("POST", "/api/v1/alerts")
    connection.putheader("Content-Length", "1000")
    connection.putheader("Authorization", f"Bearer {TOKEN}")
    connection.endheaders()
    connection.send(b'{"version"')
    connection.close()

    assert service.post(notification(ALERT))[0] == 200


def test_no_input_causes_a_traceback(service: Remediator) -> None:
    """After the bodies of all earlier tests, the log has no traceback, and the service is ready."""
    for body, _, _ in BAD.values():
        service.post(body)

    assert "Traceback" not in service.log
    assert service.get("/readyz") == {"ready": True, "store": "sqlite"}


@pytest.mark.promise(1)
def test_an_acknowledged_alert_is_processed_after_a_kill(tmp_path: Path) -> None:
    """After a SIGKILL directly after the 2xx, the next start processes the alert."""
    service = Remediator(tmp_path)
    service.playbooks = []
    service.start()
    assert service.post(notification({**ALERT, "labels": {"alertname": "Kept"}}))[0] == 200
    service.kill()
    service.start()
    try:
        until(lambda: "remediator_waiting_notifications 0.0" in service.metrics(), "the inbox is empty")
        assert service.audit_has("Kept")
    finally:
        service.stop()


@pytest.mark.promise(1)
def test_a_store_that_cannot_write_is_a_503(tmp_path: Path) -> None:
    """On a full disk (in this test, a file size limit) the answer is 503, so Alertmanager retries, and the service is
    not ready."""
    service = Remediator(tmp_path)
    service.playbooks = []
    service.file_limit = 1_500_000
    service.start()
    try:
        big = notification({**ALERT, "annotations": {"text": "x" * 900_000}})
        statuses = [service.post(big)[0] for _ in range(4)]
        assert 503 in statuses
        assert set(statuses) <= {200, 503}
    finally:
        service.stop()


def test_a_label_that_does_not_fit_is_named_where_the_run_ended(tmp_path: Path) -> None:
    """The message names the rejected label and the reason, not the missing target that follows from it."""
    service = Remediator(tmp_path)
    service.playbooks = [{**PLAYBOOK, "parameters": {"size": {"label": "size", "type": "integer"}}}]
    redis = {"platform": {"kind": "supervisor", "url": "unix:///nowhere.sock", "program": "redis"}}
    service.inventory["services"] = {"redis": redis}
    service.start()
    try:
        service.post(service.notification("firing", alertname="RedisDown", size="1e999"))
        run = service.wait_for("escalated")
        assert run["reason"] == "no_plan"
        assert service.audit_has("parameter size: label size='1e999' is not an integer")
    finally:
        service.stop()


LOOK = {"id": "logs", "action": "service.logs", "with": {"lines": "${n}"}}
SCALE = {"id": "more", "action": "service.scale", "with": {"replicas": "${n}"}}
RESTART: dict[str, Any] = {"id": "restart", "action": "service.restart"}
TOO_MANY = {"action": "service.scale", "with": {"replicas": "${n}"}, "after": "5m"}
UNFIT = {
    "a step": ({"steps": [SCALE]}, "step more: service.scale: replicas: input should be less than or equal to 1000"),
    "its way back": ({"steps": [{**RESTART, "undo": TOO_MANY}]}, "step restart: undo: service.scale: replicas"),
    "a look": ({"diagnose": [LOOK]}, "no connection"),
}


@pytest.mark.parametrize("case", UNFIT)
def test_a_value_that_the_action_rejects_is_escalated(tmp_path: Path, case: str) -> None:
    """If an action rejects a label value, nothing is done, the run is escalated, and the message has the reason."""
    change, told = UNFIT[case]
    service = Remediator(tmp_path)
    declared = {"n": {"label": "n", "type": "integer"}}
    bare = {"diagnose": [], "conclude": [], "steps": [RESTART]}
    service.playbooks = [{**PLAYBOOK, "parameters": declared, **bare, **change}]
    redis = {"platform": {"kind": "supervisor", "url": "unix:///nowhere.sock", "program": "redis"}}
    service.inventory["services"] = {"redis": redis}
    service.start()
    try:
        service.post(service.notification("firing", alertname="RedisDown", service="redis", n="1000000000000000"))
        run = service.wait_for("escalated")
        assert (run["reason"], run["steps"]) == ("no_plan", [])
        assert "Traceback" not in service.log
        assert service.audit_has(told)
    finally:
        service.stop()
