"""Any JSON: CEL expressions map it to alerts, and a body that cannot be mapped gives a reason."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from remediator.errors import PayloadError
from remediator.extensions.sources.json import MAX_ALERTS, JsonSettings, JsonSource

PLAIN = {"status": '"firing"', "labels": {"alertname": '"Down"'}}


def source(**mapping: Any) -> JsonSource:
    return JsonSource("any", JsonSettings.model_validate({"mapping": {**PLAIN, **mapping}}))


def read(made: JsonSource, content: Any) -> list[Any]:
    body = json.dumps(content).encode()
    made.check(body)
    return list(made.read(body).alerts)


def test_a_list_of_alerts_is_mapped_one_by_one() -> None:
    """Expressions can use ``body`` and ``alert``; an ignored alert is left out."""
    made = source(
        alerts="body.items",
        ignore='alert.kind == "noise"',
        status='alert.ok ? "resolved" : "firing"',
        labels={"alertname": "alert.name", "site": "body.site", "empty": '""', "nothing": "null"},
        annotations={"summary": 'has(alert.text) ? alert.text : ""'},
    )
    items = [{"kind": "x", "ok": False, "name": "A", "text": "t"}, {"kind": "noise"}]
    found = read(made, {"site": 7, "items": [*items, {"kind": "x", "ok": True, "name": "B"}]})
    assert [(each.status, each.labels, each.annotations) for each in found] == [
        ("firing", {"alertname": "A", "site": "7"}, {"summary": "t"}),
        ("resolved", {"alertname": "B", "site": "7"}, {}),
    ]


@pytest.mark.parametrize(
    ("given", "labels"),
    [
        (
            {"env": "prod", "n": 3, "up": True, "f": 2.0, "x": None},
            {"env": "prod", "n": "3", "up": "true", "f": "2"},
        ),
        ([{"name": "host", "value": "a"}, {"tag": "env", "value": "b"}, {"key": "k", "value": 1}, {}], None),
        ("env:prod, host:web-1:8080,urgent,", {"env": "prod", "host": "web-1:8080", "urgent": "true"}),
        ({"alertname": "Forged"}, {}),
    ],
)
def test_labels_come_from_a_mapping_a_list_or_a_text(given: Any, labels: dict[str, str] | None) -> None:
    """``labels`` has priority over ``labels_from``."""
    (alert,) = read(source(labels_from="body.tags"), {"tags": given})
    expected = {"host": "a", "env": "b", "k": "1"} if labels is None else labels
    assert alert.labels == {**expected, "alertname": "Down"}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z"),
        ("2015-06-03T17:43:27.123+0000", "2015-06-03T17:43:27.123+0000"),
        (1700000000, "2023-11-14T22:13:20"),
        ("1700000000", "2023-11-14T22:13:20"),
        (1700000000123, "2023-11-14T22:13:20.123"),
        (None, "0001-01-01T00:00:00Z"),
        ("", "0001-01-01T00:00:00Z"),
    ],
)
def test_times_are_rfc_3339_or_numbers(given: Any, expected: str) -> None:
    """A large number is a time in milliseconds."""
    (alert,) = read(source(starts_at="body.t"), {"t": given})
    assert alert.starts_at.startswith(expected)


@pytest.mark.parametrize(
    ("mapping", "content", "why"),
    [
        ({"labels": {"alertname": "body.name"}}, {}, "alert 1: mapping.labels.alertname: there is no 'name'"),
        ({"labels": {"alertname": "body.name"}}, {"name": ""}, "mapping.labels.alertname: the result is empty"),
        ({"status": "body.s"}, {"s": "ALARM"}, "mapping.status: expected firing or resolved, not 'ALARM'"),
        ({"alerts": "body.a"}, {"a": {}}, "mapping.alerts: expected a list of alerts"),
        ({"alerts": "body.a"}, {"a": [{}] * (MAX_ALERTS + 1)}, f"the limit of this kind of source is {MAX_ALERTS}"),
        ({"labels": {"alertname": "body.l"}}, {"l": [1]}, "expected a text or a number, not a list"),
        ({"labels_from": "body.l"}, {"l": 3}, "mapping.labels_from: expected a mapping"),
        ({"starts_at": "body.t"}, {"t": 1e300}, "mapping.starts_at: '1e[+]300' is not a time"),
        ({"starts_at": "body.t"}, {"t": "yesterday"}, "not an RFC 3339 time"),
        ({"fingerprint": "body.id"}, {"id": ""}, "mapping.fingerprint: the result is empty"),
        ({"labels": {"alertname": "body.a + body.b"}}, {"a": "x", "b": 1}, "these types cannot be combined"),
    ],
)
def test_what_cannot_be_mapped_says_which_expression_and_why(mapping: dict[str, Any], content: Any, why: str) -> None:
    """The dead letter has the expression and the reason."""
    with pytest.raises(PayloadError, match=why):
        read(source(**mapping), content)


def test_many_alerts_cannot_each_copy_a_long_body() -> None:
    """The work for a body is limited: expressions that copy a long body for each alert are refused."""
    made = source(alerts="body.items", labels={"alertname": "body.name"})
    with pytest.raises(PayloadError, match="too many for expressions that use 'body'"):
        read(made, {"name": "A", "items": [{"x": "y" * 100}] * 900})


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b"[" * 21 + b"]" * 21])
def test_a_body_that_is_no_plain_json_is_refused(body: bytes) -> None:
    """A body that is not JSON, or is nested too deeply, is refused."""
    with pytest.raises(PayloadError):
        source().check(body)


def test_json_in_a_text_is_decoded_within_the_limits() -> None:
    """A text that is not JSON stays a text; a text with too deep nesting is refused."""
    made = source(decode=["Message", "a.b"], labels={"alertname": "body.Message.name"})
    (alert,) = read(made, {"Message": '{"name": "A"}', "a": "no mapping"})
    assert alert.labels == {"alertname": "A"}
    with pytest.raises(PayloadError, match="a field was read from a value that is not a mapping"):
        read(made, {"Message": "plain text"})
    with pytest.raises(PayloadError, match="levels deep"):
        read(made, {"Message": "[" * 50 + "]" * 50})


def test_the_fingerprint_identifies_an_alert_instead_of_its_labels() -> None:
    """With a fingerprint, labels may differ when an alert is resolved. Without one, the labels identify the alert."""
    by_id, by_labels = source(fingerprint="body.id", labels_from="body.l"), source(labels_from="body.l")
    first, second = {"id": "7", "l": {"value": "1"}}, {"id": "7", "l": {"value": "2"}}
    assert by_id.identity(read(by_id, first)[0]) == by_id.identity(read(by_id, second)[0])
    assert by_labels.identity(read(by_labels, first)[0]) != by_labels.identity(read(by_labels, second)[0])


@pytest.mark.parametrize(
    "mapping",
    [
        {"status": "body.x = 1"},
        {"status": "evidence.ping.ok"},
        {"labels": {"job": "body.j"}},
        {"alerts": "x.map(y, y)"},
    ],
)
def test_a_mapping_that_can_never_work_is_refused_at_the_start(mapping: dict[str, Any]) -> None:
    """The start fails for invalid CEL, a variable of conditions, a missing alertname, or a function without a limit."""
    with pytest.raises(ValidationError):
        source(**mapping)
