"""The pages of the console show all records, page equally fast at both ends, and report tampering."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from xml.etree import ElementTree

import pytest
from sqlalchemy import delete, insert

from remediator.audit import Draft, Kind, keys
from remediator.reporting import document, incident_document, run_timeline
from remediator.reporting.alert_series import split_comparison
from remediator.reporting.charts import Mark, lay_out_dependencies, line_chart
from remediator.runtime.checkpointing import CheckpointSettings, create_checkpoint
from remediator.runtime.retention import RetentionSettings, archive_segment
from remediator.storage import Tx
from remediator.storage.repositories import audit, runs
from remediator.storage.schema import audit as log
from remediator.storage.schema import episodes, run_episodes
from remediator.storage.schema import runs as table
from tests.support.guard_history import NOON, alert, row
from tests.support.web_service import WebService, submit_decision


async def _many(web: WebService, count: int) -> None:
    rows = [
        row(
            f"run-old-{number:07}",
            f"playbook-{number % 7}",
            f"service-{number % 11}",
            "failed" if number % 1000 == 0 else "succeeded",
            NOON - timedelta(seconds=number),
            finished_at=NOON,
        )
        for number in range(count)
    ]
    await web.context.store.write(lambda tx: tx.connection.execute(insert(table), rows))


async def test_paging_returns_every_run_once(web: WebService) -> None:
    """Every run is on exactly one page. Filters and search work."""
    await _many(web, 230)
    seen: list[str] = []
    async with web.client() as client:
        path = "/runs"
        while path:
            page = (await client.get(path)).text
            seen += [part.partition('"')[0] for part in page.split('<a href="/runs/')[1:]]
            path = page.partition('rel="next" href="')[2].partition('"')[0].replace("&amp;", "&")
        assert len(seen) == len(set(seen)) == 230
        assert (await client.get("/runs?status=failed")).text.count('<a href="/runs/run-old') == 1
        assert (await client.get("/runs?q=run-old-0000007")).text.count('<a href="/runs/run-old') == 1
        assert (await client.get("/runs?q=service-3")).text.count('<a href="/runs/run-old') == 21
        assert (await client.get("/runs?before=nonsense")).status_code == 200


async def test_paging_of_a_search_for_an_alert(web: WebService) -> None:
    """Every run of the alert is on exactly one page, also a run with 1000 alerts. Filters apply."""
    await _many(web, 130)
    await web.context.store.write(lambda tx: _fire(tx, 130))
    seen: list[str] = []
    async with web.client() as client:
        path = "/runs?q=TheAlert"
        while path:
            page = (await client.get(path)).text
            seen += [part.partition('"')[0] for part in page.split('<a href="/runs/')[1:]]
            path = page.partition('rel="next" href="')[2].partition('"')[0].replace("&amp;", "&")
        assert len(seen) == len(set(seen)) == 130
        one = (await client.get("/runs?q=TheAlert&target=service-3")).text
        assert one.count('<a href="/runs/run-old') == (await client.get("/runs?q=service-3")).text.count(
            "/runs/run-old"
        )
        both = (await client.get("/runs?q=service-3&target=service-4")).text
        assert "/runs/run-old" not in both


def _fire(tx: Tx, count: int) -> None:
    """Give each run one episode, and the newest run 1000 more."""
    found = [(run.id, run.created_at) for run in runs.list_page(tx.connection, count)]
    for number, (run_id, created) in enumerate([*found, *[found[0]] * 1000]):
        item = replace(alert(number, at=created), alertname="TheAlert", identity=f"identity-{number}")
        values = {name: getattr(item, name) for name in item.__dataclass_fields__}
        tx.connection.execute(insert(episodes), {**values, "id": f"episode-{number}", "status": "closed"})
        tx.connection.execute(
            insert(run_episodes), {"run_id": run_id, "episode_id": f"episode-{number}", "joined_at": created}
        )


async def test_a_changed_entry_is_reported(web: WebService) -> None:
    """After a change in the database, the page names the broken entry."""
    await web.request_approval()
    async with web.client() as client:
        assert "match their hashes and form an unbroken chain" in (await client.get("/audit")).text
        changed = "CAST(replace(canonical, 'redis-disk-full', 'redis-disk-fool') AS BLOB)"
        change = f"UPDATE audit SET canonical = {changed} WHERE seq = 2"
        await web.context.store.write(lambda tx: tx.connection.exec_driver_sql(change))
        assert "Entry 2 breaks the hash chain" in (await client.get("/audit")).text
        assert "Entry 2" not in (await client.get("/audit?kind=approval.requested")).text


async def test_a_truncated_log_is_reported(web: WebService) -> None:
    """If the last entries are deleted but not the head, the first page reports it. Older pages are consistent."""
    await web.request_approval()
    end = await web.head()
    await web.context.store.write(lambda tx: tx.connection.execute(delete(log).where(log.c.seq == end)))
    async with web.client() as client:
        page = (await client.get("/audit")).text
        assert f"Entry {end} breaks the hash chain" in page
        assert "match their hashes" in (await client.get(f"/audit?before={end}")).text


async def test_an_unreadable_entry_does_not_hide_a_run(web: WebService) -> None:
    """Page and API show the rest of the run and name the unreadable entry."""
    asked = await web.request_approval()
    change = "UPDATE audit SET canonical = 'x' WHERE kind = 'approval.requested'"
    await web.context.store.write(lambda tx: tx.connection.exec_driver_sql(change))
    async with web.client() as client:
        for path in (f"/runs/{asked.run_id}", f"/api/v1/runs/{asked.run_id}"):
            page = await client.get(path)
            assert page.status_code == 200 and "of the audit log cannot be read" in page.text
        assert "breaks the hash chain" in (await client.get("/audit")).text


async def test_the_timeline_includes_archived_entries(web: WebService, tmp_path: Path) -> None:
    """The timeline contains archived decisions. Without the archive, it states that it is incomplete."""
    asked = await web.request_approval()
    matched = Draft(
        Kind.RUN_MATCHED, "test", run=asked.run_id, playbook="p", data={"target": "redis", "mode": "approve"}
    )
    await web.context.store.write(lambda tx: tx.append_audit(matched))
    async with web.client() as client:
        await submit_decision(client, web.link(asked), "approve", token=web.tokens["ann"])
    before = await web.context.store.read(lambda connection: run_timeline.load_timeline(connection, asked.run_id))
    await _sealed(web, tmp_path)
    told, alone = [
        await web.context.store.read(
            lambda connection, folder=folder: run_timeline.load_timeline(connection, asked.run_id, folder)
        )
        for folder in (tmp_path / "archive", None)
    ]
    assert before and told and alone
    assert told.events == before.events and told.complete and not alone.complete
    said = document.to_markdown(incident_document.document(alone))
    assert "Decided by: ann" in document.to_markdown(incident_document.document(told))
    assert "No approval was requested" not in said and "are in the archive of the audit log" in said
    next((tmp_path / "archive").iterdir()).write_bytes(b"damaged")
    damaged = await web.context.store.read(lambda c: run_timeline.load_timeline(c, asked.run_id, tmp_path / "archive"))
    assert damaged and not damaged.complete


async def _sealed(web: WebService, folder: Path) -> None:
    """Move all entries to the archive."""
    signer = keys.create(folder / "audit.key", "remediator/test")
    head = await web.context.store.read(audit.get_head)
    await create_checkpoint(
        web.context, CheckpointSettings("remediator/test", signer, {}, 10, timedelta(minutes=1)), head
    )
    web.clock.time += timedelta(days=100)
    assert await archive_segment(web.context, RetentionSettings(folder / "archive", timedelta(days=90), head.seq))


async def test_pages_report_archived_entries(web: WebService, tmp_path: Path) -> None:
    """The page of the run and the last page of the log name the place of the entries. Plan and evidence stay."""
    asked = await web.request_approval()
    async with web.client() as client:
        before = (await client.get(f"/runs/{asked.run_id}")).text
        assert "the archive" not in before and "the archive" not in (await client.get("/audit")).text
        await _sealed(web, tmp_path)
        page = (await client.get(f"/runs/{asked.run_id}")).text
        assert f"remediator audit search --run {asked.run_id}" in page and "move 3 files of /backups" in page
        assert "have moved to the archive" in (await client.get("/audit")).text
        unknown = await client.get("/runs/run-none")
        assert unknown.status_code == 404 and "remediator audit search --run run-none" in unknown.text


@pytest.mark.parametrize(
    ("expression", "wanted"),
    [
        ('redis_up{job="redis-exporter"} == 0', ('redis_up{job="redis-exporter"}', 0.0)),
        ("a / b > 0.9", ("a / b", 0.9)),
        ("a > 1 and b > 2", ("a > 1 and b > 2", None)),
        ("absent(up)", ("absent(up)", None)),
    ],
)
def test_what_an_alert_measures(expression: str, wanted: tuple[str, float | None]) -> None:
    """For simple comparisons, the chart shows the compared expression and the limit."""
    assert split_comparison(expression) == wanted


def test_charts_are_well_formed() -> None:
    """Charts are valid with gaps, NaN, a single point, no data, and markup in labels."""
    later = NOON + timedelta(minutes=1)
    lines = [[(NOON, 1.0), (later, float("nan"))], [(NOON, 0.0), (later, 2.5)], []]
    drawn = line_chart(lines, NOON, later, 0.9, [Mark(NOON, "<fires>")], "label")
    near = [Mark(later, text) for text in ("acts", "succeeded")]
    drawn_near = line_chart(lines, NOON, later, 0.9, near, "label")
    tops = re.findall(r'y="([0-9.]+)" text-anchor="end" class="name"', drawn_near)
    assert len(set(tops)) == 2, "labels of simultaneous marks are below each other, and inside the chart"
    assert "nan" not in drawn and "&lt;fires&gt;" in drawn
    for svg in (drawn, line_chart([], NOON, later, None, [], "label", standalone=True)):
        ElementTree.fromstring(svg)
    places = lay_out_dependencies(
        {"app": ["redis"], "redis": [], "web": ["app", "redis"]}, dict.fromkeys(("app", "redis", "web"), "k")
    )
    above = {box.name: box.y for box in places.boxes}
    assert above["web"] < above["app"] < above["redis"] and len(places.arrows) == 3
