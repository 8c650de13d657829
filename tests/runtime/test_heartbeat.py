"""The heartbeat to an external monitor: sent while this replica makes progress, and not otherwise."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import ValidationError
from sqlalchemy import delete

from remediator.config import Heartbeat
from remediator.errors import StoreError
from remediator.runtime.heartbeat import MAX_AGE, send_heartbeat
from remediator.storage import schema
from remediator.storage.repositories import replicas
from tests.support.servers.receivers import receiver
from tests.support.web_service import WebService, web_service

pytestmark = pytest.mark.promise(14)


@pytest.fixture
async def web(tmp_path: Path) -> AsyncIterator[WebService]:
    """Return a service without its loops."""
    folder = tmp_path / "service"
    folder.mkdir()
    async with web_service(folder) as made:
        yield made


async def record(web: WebService) -> None:
    """Record progress of the replica, as the maintenance loop does."""
    context = web.service.context
    await context.store.write(lambda tx: replicas.record_heartbeat(tx, context.replica, "1", 1, "all"))


async def test_a_working_replica_sends_its_heartbeat(web: WebService, tmp_path: Path) -> None:
    """The heartbeat goes to the URL in the file, with its query."""
    await record(web)
    secret = tmp_path / "url"
    with receiver() as monitor:
        secret.write_text(f"{monitor.url}/ping/abc?grace=5m\n")
        assert await send_heartbeat(web.service.context, Heartbeat(url_file=secret))
        assert [call.path for call in monitor.received] == ["/ping/abc?grace=5m"]


async def test_a_replica_without_progress_sends_nothing(web: WebService, monkeypatch: pytest.MonkeyPatch) -> None:
    """No heartbeat is sent before the first record, with an old record, or without the store."""
    context = web.service.context
    with receiver() as monitor:
        settings = Heartbeat(url=monitor.url)
        await context.store.write(lambda tx: tx.connection.execute(delete(schema.replicas)))
        assert not await send_heartbeat(context, settings)

        await record(web)
        now = context.clock.now()
        monkeypatch.setattr(context.clock, "now", lambda: now + MAX_AGE + timedelta(seconds=1))
        assert not await send_heartbeat(context, settings)

        async def broken(work: object) -> None:
            raise StoreError("the disk is full")

        monkeypatch.setattr(context.store, "read", broken)
        assert not await send_heartbeat(context, settings)
        assert monitor.received == []


async def test_a_monitor_that_does_not_accept_it_changes_nothing(web: WebService) -> None:
    """If the monitor refuses or does not answer, only the log reports it, without the URL."""
    await record(web)
    with receiver() as monitor:
        monitor.answers = [(500, {}, b"")]
        assert not await send_heartbeat(web.service.context, Heartbeat(url=monitor.url))
    assert not await send_heartbeat(web.service.context, Heartbeat(url="http://127.0.0.1:1/secret"))


@pytest.mark.parametrize("given", [{}, {"url": "http://a/", "url_file": "b"}, {"url": "ftp://a/"}])
def test_exactly_one_address_is_needed(given: dict[str, str]) -> None:
    """The settings need a URL or a file, not both; a URL may be a secret and then belongs into a file."""
    with pytest.raises(ValidationError):
        Heartbeat.model_validate(given)
