"""From the inbox to the runs: no part of a long notification is lost, and no event is missed."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from datetime import timedelta

import pytest
from sqlalchemy import Connection, func, select
from sqlalchemy.exc import ProgrammingError

from remediator.core.clock import SystemClock
from remediator.core.ids import Ids
from remediator.errors import StoreUnavailable
from remediator.extensions.clientset import NOTHING
from remediator.pipeline.context import PipelineContext, PlaybookSet
from remediator.pipeline.ingest import IngestSettings, process_inbox
from remediator.pipeline.match import Index
from remediator.pipeline.receive import receive
from remediator.playbooks.model import Playbook
from remediator.storage import Store
from remediator.storage.repositories import evidence, run_claims, runs
from remediator.storage.repositories.evidence import EvidenceRecord
from remediator.storage.schema import audit, episodes, messages, notifications


def context_on(store: Store) -> PipelineContext:
    """Return an engine that only processes the inbox."""
    book = PlaybookSet((), NOTHING, "test")
    return PipelineContext(
        store=store,
        clock=SystemClock(),
        ids=Ids(random.Random(1)),
        replica="test",
        playbooks=book,
        actions={},
        checks={},
        guards=(),
    )


@pytest.mark.promise(1)
@pytest.mark.parametrize("alerts", [1, 63, 64, 65, 300])
async def test_a_notification_of_any_length_is_processed_completely(
    store: Store, connection: Connection, alerts: int
) -> None:
    """A notification that is too long for one transaction continues in the next one; each alert is processed once."""
    context, settings = context_on(store), IngestSettings()
    told = [
        {
            "status": "firing",
            "labels": {"alertname": "Down", "n": str(number)},
            "startsAt": "2026-01-01T00:00:00Z",
            "endsAt": "0001-01-01T00:00:00Z",
        }
        for number in range(alerts)
    ]
    await receive(store, json.dumps({"version": "4", "receiver": "r", "alerts": told}).encode())
    rounds = 0
    while await process_inbox(context, Index((), "Watchdog"), settings) >= 0:
        rounds += 1
        assert rounds < 100, "it never ends"
    assert rounds == -(-alerts // settings.batch_size)
    assert connection.execute(select(func.count()).select_from(episodes)).scalar_one() == alerts
    opened = select(func.count()).select_from(audit).where(audit.c.kind == "episode.opened")
    assert connection.execute(opened).scalar_one() == alerts
    waiting = select(func.count()).select_from(notifications).where(notifications.c.processed_at.is_(None))
    assert connection.execute(waiting).scalar_one() == 0


async def test_a_run_is_due_after_an_event_during_its_evaluation(store: Store) -> None:
    """If the run was resolved, decided or cancelled during its evaluation, it is due at once after its release."""
    hour = timedelta(hours=1)
    await store.write(lambda tx: runs.create(tx, "run-1", "p", "h", "t", "auto", "test"))
    [run] = await store.write(lambda tx: run_claims.claim_due(tx, "me", timedelta(minutes=1), 5))
    await store.write(lambda tx: runs.notify(tx, [run.id]))
    await store.write(lambda tx: run_claims.release(tx, run, tx.now + hour, run.wakeup_count))
    assert [item.id for item in await store.write(lambda tx: run_claims.claim_due(tx, "me", hour, 5))] == [run.id]


async def test_without_an_event_a_run_waits(store: Store) -> None:
    """The run is due at the time of its last evaluation result, and not earlier."""
    hour = timedelta(hours=1)
    await store.write(lambda tx: runs.create(tx, "run-1", "p", "h", "t", "auto", "test"))
    [run] = await store.write(lambda tx: run_claims.claim_due(tx, "me", timedelta(minutes=1), 5))
    await store.write(lambda tx: run_claims.release(tx, run, tx.now + hour, run.wakeup_count))
    assert await store.write(lambda tx: run_claims.claim_due(tx, "me", hour, 5)) == []


def body_of(labels: dict[str, str], annotations: dict[str, str] | None = None) -> bytes:
    """Return a notification of one firing alert."""
    alert = {
        "status": "firing",
        "labels": labels,
        "annotations": annotations or {},
        "startsAt": "2026-01-01T00:00:00Z",
        "endsAt": "0001-01-01T00:00:00Z",
    }
    return json.dumps({"version": "4", "receiver": "r", "alerts": [alert]}).encode()


LONG = "".join(random.Random(2).choices("abcdefghijklmnopqrstuvwxyz0123456789", k=20_000))
STRANGE = {
    "a name with a zero byte": ({"alertname": "Do\x00wn"}, {}),
    "a label with a zero byte": ({"alertname": "Down", "pod\x00": "a\x00b"}, {}),
    "an annotation with a zero byte": ({"alertname": "Down"}, {"summary": "a\x00b"}),
    "a name longer than an index holds": ({"alertname": LONG}, {}),
    "a label longer than an index holds": ({"alertname": "Down", "pod": LONG}, {}),
    "no name": ({"pod": "a"}, {}),
}


@pytest.mark.promise(1)
@pytest.mark.parametrize("labels, annotations", STRANGE.values(), ids=STRANGE)
async def test_an_invalid_alert_does_not_block_the_next(
    store: Store, connection: Connection, labels: dict[str, str], annotations: dict[str, str]
) -> None:
    """An accepted notification is processed whatever its labels are; otherwise it would block all later
    notifications."""
    context, settings = context_on(store), IngestSettings()
    await receive(store, body_of(labels, annotations))
    await receive(store, body_of({"alertname": "Next"}))
    while await process_inbox(context, Index((), "Watchdog"), settings) >= 0:
        pass
    assert connection.execute(select(func.count()).select_from(episodes)).scalar_one() == 2
    names = connection.execute(select(episodes.c.alertname)).scalars().all()
    assert "Next" in names


class Careless(Index):
    """An index that fails for some alerts."""

    def __init__(self, error: Exception) -> None:
        super().__init__((), "Watchdog")
        self.error = error

    def match(self, labels: Mapping[str, str]) -> list[Playbook]:
        if labels["alertname"].startswith("Bad"):
            raise self.error
        return super().match(labels)


@pytest.mark.promise(1)
@pytest.mark.parametrize("before, after", [(0, 0), (0, 2), (2, 0), pytest.param(70, 70, marks=pytest.mark.long)])
async def test_an_alert_that_cannot_be_processed_is_reported(
    store: Store, connection: Connection, before: int, after: int
) -> None:
    """Whatever the error: all other alerts of this notification and of the next one are processed once."""
    context, settings = context_on(store), IngestSettings(channels=("pager",))
    names = [*(f"B{n}" for n in range(before)), "Bad\x00", *(f"A{n}" for n in range(after))]
    alerts = [{"status": "firing", "labels": {"alertname": name}} for name in names]
    await receive(store, json.dumps({"version": "4", "receiver": "r", "alerts": alerts}).encode())
    await receive(store, body_of({"alertname": "Next"}))
    index = Careless(RuntimeError("a defect"))
    for _ in range(20):
        if await process_inbox(context, index, settings) < 0:
            break
    folded = connection.execute(select(episodes.c.alertname)).scalars().all()
    assert sorted(folded) == sorted([*names[:before], *names[before + 1 :], "Next"])
    assert connection.execute(select(func.count()).where(notifications.c.processed_at.is_(None))).scalar_one() == 0
    [entry] = connection.execute(select(audit.c.canonical).where(audit.c.kind == "notification.rejected")).scalars()
    said = json.loads(entry)["data"]
    assert said == {"notification": 1, "alert": before, "alertname": "Bad\\x00", "message": "RuntimeError: a defect"}
    [message] = connection.execute(select(messages)).all()
    assert (message.channel, message.kind) == ("pager", "notice")
    assert message.content["text"].startswith("Bad\\x00 could not be processed, and nothing is done about it")


@pytest.mark.promise(1)
async def test_many_dead_letters_send_one_message(store: Store, connection: Connection) -> None:
    """If a defect affects every alert, each alert is recorded, and people are notified once a minute."""
    context, settings = context_on(store), IngestSettings(channels=("pager",))
    for number in range(3):
        await receive(store, body_of({"alertname": f"Bad{number}"}))
    while await process_inbox(context, Careless(RuntimeError("a defect")), settings) >= 0:
        pass
    rejected = select(func.count()).select_from(audit).where(audit.c.kind == "notification.rejected")
    assert connection.execute(rejected).scalar_one() == 3
    assert connection.execute(select(func.count()).select_from(messages)).scalar_one() == 1


@pytest.mark.promise(1)
@pytest.mark.parametrize(
    "error", [StoreUnavailable("full"), ProgrammingError("insert", {}, Exception("permission denied"))], ids=repr
)
async def test_a_store_error_makes_no_dead_letter(store: Store, connection: Connection, error: Exception) -> None:
    """While the store fails, alerts wait; they are processed afterwards and do not become dead letters."""
    context, settings = context_on(store), IngestSettings(channels=("pager",))
    await receive(store, body_of({"alertname": "Bad"}))
    with pytest.raises(type(error)):
        await process_inbox(context, Careless(error), settings)
    assert connection.execute(select(func.count()).where(notifications.c.processed_at.is_(None))).scalar_one() == 1
    while await process_inbox(context, Index((), "Watchdog"), settings) >= 0:
        pass
    assert connection.execute(select(episodes.c.alertname)).scalars().all() == ["Bad"]


async def test_text_with_a_zero_byte_is_stored(store: Store) -> None:
    """A line with a zero byte, for example from a dying service, is stored as evidence, and its run continues."""
    await store.write(lambda tx: runs.create(tx, "run-1", "p", "h", "t", "auto", "test"))
    [run] = await store.write(lambda tx: run_claims.claim_due(tx, "me", timedelta(minutes=1), 5))
    odd = EvidenceRecord(
        "diagnose", "logs", "ok", "it said \x00 and was gone", {"lines": ["\x00"]}, SystemClock().now()
    )
    await store.write(lambda tx: evidence.add(tx, run, [odd], "test"))
    [kept] = await store.read(lambda connection: evidence.list_for_run(connection, run.id))
    assert "and was gone" in kept.summary


@pytest.mark.parametrize("ends", ["0001-01-01T00:00:00Z", "2025-12-31T00:00:00Z"], ids=["year 1", "before its start"])
async def test_a_resolve_with_an_implausible_end_ends_the_episode(
    store: Store, connection: Connection, ends: str
) -> None:
    """Alertmanager reports the alert as resolved: a wrong clock does not keep the incident open."""
    context, settings = context_on(store), IngestSettings()
    for status, until in (("firing", "0001-01-01T00:00:00Z"), ("resolved", ends)):
        await receive(store, _update(status, "2026-01-01T00:00:00Z", until))
        await process_inbox(context, Index((), "Watchdog"), settings)
    assert connection.execute(select(episodes.c.status)).scalars().all() == ["resolved"]


async def test_the_resolve_of_an_earlier_firing_is_ignored_and_recorded(store: Store, connection: Connection) -> None:
    """The episode of the later firing stays open, and the audit log has the reason."""
    context, settings = context_on(store), IngestSettings()
    await receive(store, _update("firing", "2026-01-01T00:00:00Z", "0001-01-01T00:00:00Z"))
    await process_inbox(context, Index((), "Watchdog"), settings)
    await receive(store, _update("resolved", "2025-12-01T00:00:00Z", "2025-12-02T00:00:00Z"))
    await process_inbox(context, Index((), "Watchdog"), settings)
    assert connection.execute(select(episodes.c.status)).scalars().all() == ["firing"]
    ignored = select(audit.c.canonical).where(audit.c.kind == "episode.resolve_ignored")
    [entry] = connection.execute(ignored).scalars()
    assert json.loads(entry)["reason"] == "older_firing"
    assert json.loads(entry)["data"]["ends_at"] == "2025-12-02T00:00:00Z"


def _update(status: str, starts: str, ends: str) -> bytes:
    item = {"status": status, "labels": {"alertname": "Down"}, "startsAt": starts, "endsAt": ends}
    return json.dumps({"version": "4", "receiver": "r", "alerts": [item]}).encode()
