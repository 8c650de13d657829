"""Log lines can be filtered by level, status and route, and cannot be forged by a client."""

import json
import logging
import sys

import pytest

from app.logs import JsonFormatter, TextFormatter, Throttle, fields
from tests.app.conftest import LocalApp


def record(message: str, **values: object) -> logging.LogRecord:
    made = logging.LogRecord("app.test", logging.ERROR, __file__, 1, message, None, None)
    made.__dict__ |= fields(**values)
    return made


def test_a_text_line_has_time_level_message_and_fields() -> None:
    """A text line has time, level, logger, pid, message and fields. A value with spaces is quoted."""
    line = TextFormatter().format(record("GET /items", status=500, user='a "b"', cache=None))
    assert line.split(" ", 1)[0].endswith("Z")
    assert line.endswith('GET /items status=500 user="a \\"b\\""') and " ERROR app.test pid=" in line


def test_value_cannot_start_a_line() -> None:
    """A line break in a value is escaped, so every event is one line, whatever a client sends."""
    assert "\n" not in TextFormatter().format(record("x", path="a\nERROR forged"))


def test_a_json_line_contains_the_traceback() -> None:
    """A JSON line is one object that contains the traceback."""
    try:
        raise ModuleNotFoundError("No module named 'prices'")
    except ModuleNotFoundError:
        made = record("could not start", status=500)
        made.exc_info = sys.exc_info()
    line = JsonFormatter().format(made)
    entry = json.loads(line)
    assert "\n" not in line
    assert (entry["level"], entry["status"]) == ("ERROR", 500)
    assert "ModuleNotFoundError: No module named 'prices'" in entry["traceback"]


def test_throttle_counts_suppressed_events() -> None:
    """The log has one event of each kind per period. The next event states how many were suppressed."""
    now = 0.0
    throttle = Throttle(5, lambda: now)
    assert [throttle.suppressed_before("a"), throttle.suppressed_before("b"), throttle.suppressed_before("a")] == [
        0,
        0,
        None,
    ]
    now = 5.0
    assert [throttle.suppressed_before("a"), throttle.suppressed_before("b")] == [1, 0]


async def test_each_request_logs_one_line(local_app: LocalApp, caplog: pytest.LogCaptureFixture) -> None:
    """Each request logs one line with status, route template and user. A 5xx is logged as ERROR."""
    caplog.set_level(logging.INFO, "app.access")
    await local_app.client.post("/login", json={"username": "ada"})
    await local_app.client.get("/me")
    await local_app.client.get("/items/1%0aERROR")
    lines = [TextFormatter().format(each) for each in caplog.records if each.name == "app.access"]
    assert len(lines) == 3
    assert "route=/me user=ada" in lines[1] and "status=200" in lines[1]
    assert "GET /items/1%0AERROR" in lines[2]
    await local_app.parts.records._run(lambda connection: connection.execute("DROP TABLE item"))
    await local_app.client.get("/items")
    last = TextFormatter().format([each for each in caplog.records if each.name == "app.access"][-1])
    assert " ERROR app.access " in last and "status=503" in last
