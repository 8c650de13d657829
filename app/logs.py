"""Log format: one line per event, text with key=value fields or JSON. Access log on stdout, the rest on stderr."""

import json
import logging
import time
from collections.abc import Callable, Hashable
from datetime import UTC, datetime
from typing import Any


def fields(**values: object) -> dict[str, dict[str, object]]:
    """Return structured fields for a log call: ``log.info("…", extra=fields(status=500))``."""
    return {"fields": {name: value for name, value in values.items() if value is not None}}


class TextFormatter(logging.Formatter):
    """Format: `<RFC 3339 time> LEVEL logger pid=… message key=value`, followed by the traceback if there is one."""

    def format(self, record: logging.LogRecord) -> str:
        extra = "".join(f" {name}={_text(value)}" for name, value in getattr(record, "fields", {}).items())
        head = f"{_time(record)} {record.levelname} {record.name} pid={record.process}"
        line = f"{head} {record.getMessage().strip()}{extra}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class JsonFormatter(logging.Formatter):
    """Format: one JSON object per line, including the traceback."""

    def format(self, record: logging.LogRecord) -> str:
        entry = {"time": _time(record), "level": record.levelname, "logger": record.name, "pid": record.process}
        entry |= {"message": record.getMessage().strip()} | getattr(record, "fields", {})
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str)


class Throttle:
    """Pass one event of a kind every `period` seconds, and count the suppressed ones."""

    def __init__(self, period: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._period = period
        self._clock = clock
        self._last: dict[Hashable, float] = {}
        self._suppressed: dict[Hashable, int] = {}

    def suppressed_before(self, kind: Hashable) -> int | None:
        """Return None if this event is suppressed, else the number of events suppressed since the last one."""
        now = self._clock()
        if now - self._last.get(kind, float("-inf")) < self._period:
            self._suppressed[kind] = self._suppressed.get(kind, 0) + 1
            return None
        self._last[kind] = now
        return self._suppressed.pop(kind, 0)


def log_config(level: str, style: str) -> dict[str, Any]:
    """Return the configuration of the app, gunicorn and uvicorn for `logging.config.dictConfig`."""
    formatter = {"text": TextFormatter, "json": JsonFormatter}[style]
    to_stderr = {"handlers": ["stderr"], "level": level, "propagate": False}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {"()": formatter}},
        "handlers": {
            "stdout": {"class": "logging.StreamHandler", "stream": "ext://sys.stdout", "formatter": "line"},
            "stderr": {"class": "logging.StreamHandler", "stream": "ext://sys.stderr", "formatter": "line"},
        },
        "root": {"handlers": ["stderr"], "level": "WARNING"},
        "loggers": {
            "app": to_stderr,
            "app.access": to_stderr | {"handlers": ["stdout"]},
            "gunicorn.error": to_stderr,
            "gunicorn.access": to_stderr | {"handlers": ["stdout"]},
        },
    }


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _text(value: object) -> str:
    plain = str(value)
    return plain if plain.isascii() and plain.isprintable() and not set(plain) & set(' "=') else json.dumps(plain)
