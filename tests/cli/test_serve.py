"""``remediator serve`` loads only what it needs to receive alerts before it is ready."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import structlog

from remediator.cli import serve
from tests.support.servers import until
from tests.support.servers.remediator import Remediator

LOADED = re.compile(r"^import time: .*\| +(\S+)$", re.MULTILINE)
NOT_AT_THE_START = (
    "alembic",
    "cryptography.x509",
    "jinja2",
    "promql_parser",
    "psycopg",
    "remediator.authoring",
    "remediator.web.api",
    "remediator.web.routes",
    "remediator.web.site",
    "sqlalchemy.dialects.postgresql",
    "sqlalchemy.orm",
)
"""Packages and modules that are loaded only when they are needed, each with its submodules."""


class _ListsImports(Remediator):
    forked = False

    def environment(self) -> Mapping[str, str]:
        return {**super().environment(), "PYTHONPROFILEIMPORTTIME": "1"}


@pytest.fixture
def service(tmp_path: Path) -> Iterator[_ListsImports]:
    """Return a service that logs its imports. It is not started."""
    made = _ListsImports(tmp_path)
    made.playbooks = []
    yield made
    made.stop()


def test_a_start_does_not_load_what_it_does_not_need(service: _ListsImports) -> None:
    """The pages and the API load after the start, without a request. Migrations load only for a new database."""
    service.start()
    service.stop()
    first_start = len(service.log)
    service.start()
    until(lambda: _has_loaded_pages(service.log[first_start:]), "the pages are loaded", pause=0.2)
    started, _, _ = service.log[first_start:].partition('"serving"')
    loaded = LOADED.findall(started)
    assert "remediator.web.application" in loaded
    assert [name for name in loaded if name.startswith(NOT_AT_THE_START)] == []


def _has_loaded_pages(log: str) -> bool:
    return re.search(r"\| +remediator\.web\.routes$", log, re.MULTILINE) is not None


async def test_pages_that_cannot_be_loaded_are_reported_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the pages cannot be loaded, the log reports it before a person opens a page."""

    class Damaged:
        async def console(self) -> None:
            raise ImportError("No module named 'jinja2'")

    monkeypatch.setattr(serve, "_FIRST_NOTIFICATIONS", 0)
    with structlog.testing.capture_logs() as logged:
        await serve._load_pages(Damaged())  # type: ignore[arg-type]
    assert [line["event"] for line in logged] == ["the pages and the API cannot be loaded"]
    assert logged[0]["log_level"] == "error"
