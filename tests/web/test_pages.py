"""The pages of the console: contents, filters and links."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, update

from remediator.clients.host import process
from remediator.core.run import Reason, Status
from remediator.core.run_detail import BlockedDetail, EscalatedDetail
from remediator.playbooks.discovered import TargetSet, merge
from remediator.playbooks.inventory import Inventory
from remediator.reporting.alert_links import alert_links
from remediator.storage import Tx
from remediator.storage.repositories import autonomy, runs, sessions
from remediator.storage.schema import attempts, episodes, run_episodes
from remediator.storage.schema import runs as table
from remediator.web import playbook_pages
from remediator.web.run_page import TimelineItem, grouped
from tests.support.guard_history import NOON, alert, row
from tests.support.web_service import PLAYBOOK, WebService, nonce_of, submit_decision, text_of, web_service

HTML = {"Accept": "text/html"}


async def _get(web: WebService, path: str, who: str = "oscar") -> str:
    """Return the text of a page."""
    async with web.client(headers={**HTML, **web.bearer(who)}) as client:
        answer = await client.get(path)
        assert answer.status_code == 200, f"{path}: {answer.status_code}"
        return text_of(answer.text)


async def _add_runs(web: WebService, *made: dict[str, Any]) -> None:
    await web.context.store.write(lambda tx: tx.connection.execute(insert(table), list(made)))


def _run(name: str, minutes: int, **more: Any) -> dict[str, Any]:
    """Return the columns of a run that began this many minutes before noon."""
    values = row(
        name, more.pop("playbook", "p"), more.pop("target", "redis"), "succeeded", NOON - timedelta(minutes=minutes)
    )
    return {**values, "severity": "warning", "finished_at": NOON, "incident_id": f"incident-{name}", **more}


async def test_runs_are_filtered_and_the_address_keeps_the_filters(web: WebService) -> None:
    """Runs can be filtered by severity, period, begin and end. Links to other pages keep the filters."""
    await _add_runs(
        web,
        *[_run(f"run-a{number:03}", number, severity="critical") for number in range(60)],
        _run("run-old", 3 * 24 * 60, severity="critical"),
        _run("run-info", 5, severity="info"),
    )
    async with web.client() as client:

        async def found(query: str) -> str:
            return (await client.get(f"/runs?{query}")).text

        page = await found("severity=critical&last=1d")
        assert page.count('<a href="/runs/run-a') == 50 and "run-old" not in page and "run-info" not in page
        older = page.partition('rel="next" href="')[2].partition('"')[0].replace("&amp;", "&")
        assert "severity=critical" in older and "last=1d" in older
        assert (await client.get(older)).text.count('<a href="/runs/run-a') == 10
        assert "/runs/run-info" in await found("severity=info")
        between = await found("since=2026-03-01T00:00&until=2026-03-02T00:00")
        assert "/runs/run-old" in between and "/runs/run-a" not in between
        assert 'value="2026-03-01T00:00"' in between, "the form shows the filter"
        assert (await client.get("/runs?since=nonsense&last=never")).status_code == 200


async def test_a_run_has_the_highest_severity_of_its_alerts(web: WebService) -> None:
    """A run has the highest severity of its alerts so far. A less severe alert does not lower it."""

    def work(tx: Tx) -> list[str]:
        run = runs.create(tx, "run-s", "p", "0" * 64, "redis", "auto", "test")
        seen = []
        for number, severity in enumerate(("page", "info", "")):
            labels = {"severity": severity} if severity else {}
            item = replace(alert(100 + number, **labels), identity=f"severity-{number}")
            values = {name: getattr(item, name) for name in item.__dataclass_fields__}
            tx.connection.execute(insert(episodes), values)
            runs.add_episodes(tx, run.id, [item])
            seen.append(tx.connection.execute(table.select().where(table.c.id == run.id)).one().severity)
        return seen

    assert await web.context.store.write(work) == ["critical", "critical", "critical"]


async def _fire(web: WebService, number: int, name: str, run: dict[str, Any] | None = None, **labels: str) -> None:
    def work(tx: Tx) -> None:
        item = replace(alert(number, at=tx.now, **labels), alertname=name, identity=f"fires-{number}")
        item = replace(item, labels={**item.labels, "alertname": name})
        tx.connection.execute(insert(episodes), {key: getattr(item, key) for key in item.__dataclass_fields__})
        if run is not None:
            tx.connection.execute(insert(table), run)
            joined = {"run_id": run["id"], "episode_id": item.id, "joined_at": tx.now}
            tx.connection.execute(insert(run_episodes), joined)

    await web.context.store.write(work)


@pytest.mark.promise(13)
async def test_a_firing_alert_says_what_is_done_about_it_and_why(web: WebService) -> None:
    """The page states what is done: the nearest playbook, the blocking guard, or the escalation with a retry."""
    until = NOON + timedelta(minutes=30)
    held = BlockedDetail(guard="change_freeze", text="no changes before the sale", until=until)
    blocked = row("run-held", "redis-disk-full", "redis", "blocked", NOON, reason=Reason.GUARD_BLOCKED)
    over = row(
        "run-over", "redis-disk-full", "app", "escalated", NOON, reason=Reason.APPROVAL_EXPIRED, finished_at=NOON
    )
    await _fire(web, 1, "SomethingElse", path="/x")
    await _fire(web, 2, "HeldBack", {**blocked, "detail": held.to_data(), "blocked_by": "change_freeze"})
    await _fire(web, 3, "Expired", {**over, "detail": EscalatedDetail().to_data(), "incident_open": True})
    told = await _get(web, "/")
    assert "no playbook matches; the nearest is redis-disk-full, matcher alertname" in told
    assert "Blocked by change_freeze until 12:30:00 UTC: no changes before the sale" in told
    assert "Nothing is being done: escalated, no decision before the deadline" in told and "Retry" in told
    one = await _get(web, "/alerts/episode-1")
    assert "but alertname is 'SomethingElse'" in one and "remediator explain --alert" in one
    async with web.client(headers=HTML) as client:
        assert (await client.get("/alerts/episode-none")).status_code == 404


async def test_an_alert_is_explained_with_plan_and_guards(web: WebService) -> None:
    """A signed-in person sees the current plan, and nothing is recorded. For an anonymous reader no target is asked."""
    await _fire(web, 1, "RedisDiskFull", service="redis")
    before = await web.head()
    told = await _get(web, "/alerts/episode-1?plan=yes")
    assert "redis-disk-full on redis: escalate: the plan cannot be made" in told, "the target cannot be asked"
    assert await web.head() == before
    async with web.client(headers=HTML) as client:
        anonymous = text_of((await client.get("/alerts/episode-1?plan=yes")).text)
    assert "matches" in anonymous and "the plan cannot be made" not in anonymous


async def test_links_to_other_tools(tmp_path: Path) -> None:
    """Links to runbook, expression, silence and dashboard have escaped values. Only http and https become links."""
    links = {
        "alertmanager": "https://am.example.com",
        "dashboards": {"Grafana": "https://g.example.com/d/x?s={service}&i={label.instance}&from={from}"},
    }
    async with web_service(tmp_path, links=links) as web:
        item = replace(
            alert(1, instance="a&b"),
            annotations={"runbook_url": "https://runbooks.example.com/redis", "dashboard_url": "javascript:alert(1)"},
            generator_url="http://prometheus.example.com/graph?g0.expr=up",
        )
        found = {link.label: link.url for link in alert_links(web.service.config, item, "redis", "p", NOON)}
    assert found["Runbook (runbooks.example.com)"] == "https://runbooks.example.com/redis"
    assert found["Expression (prometheus.example.com)"].endswith("g0.expr=up")
    assert found["Grafana"].startswith("https://g.example.com/d/x?s=redis&i=a%26b&from=17")
    assert found["Silence in Alertmanager"].startswith(
        "https://am.example.com/#/silences/new?filter=%7Balertname%3D%22Red"
    )
    assert not any("javascript" in url for url in found.values())


@pytest.mark.parametrize("url", ["ftp://x", "https://x/{servize}"])
async def test_a_wrong_dashboard_link_is_refused(tmp_path: Path, url: str) -> None:
    """The error names the link and the expected form."""
    with pytest.raises(Exception, match=r"http:// or https://|unknown placeholder \{servize\}"):
        async with web_service(tmp_path, links={"dashboards": {"Grafana": url}}):
            pass


@pytest.mark.promise(6)
async def test_the_inbox_lists_own_requests_first(web: WebService) -> None:
    """A group member sees the request as own. Another person sees why it is not. The title counts all."""
    await web.request_approval(groups=("sre",))
    mine, other = await _get(web, "/approvals", "ann"), await _get(web, "/approvals", "eve")
    assert "1 request waits for you" in mine and "Delete old backups" in mine
    assert "1 request waits for others" in other and "Not yours:" in other
    async with web.client() as client:
        page = (await client.get("/runs")).text
        assert "<title>(1) Runs" in page and "icon-waiting.svg" in page
        asked = await web.request_approval()
        await submit_decision(client, web.link(asked), "reject", token=web.tokens["ann"])
        assert "Rejected, asked" in text_of((await client.get("/approvals")).text)


async def test_incidents_are_listed_once_and_paged(web: WebService) -> None:
    """Each incident is on exactly one page, that of its newest run. Open ones can be selected."""
    made = [_run(f"run-{number:03}", number, incident_id=f"incident-{number // 2:03}") for number in range(80)]
    await _add_runs(web, *made, _run("run-now", 0, status="planned", finished_at=None, incident_id="incident-open"))
    seen: list[str] = []
    async with web.client() as client:
        path = "/incidents"
        while path:
            page = (await client.get(path)).text
            seen += [part.partition('"')[0] for part in page.split('<a href="/incidents/')[1:]]
            path = page.partition('rel="next" href="')[2].partition('"')[0].replace("&amp;", "&")
        assert len(seen) == len(set(seen)) == 41 and seen[0] == "incident-open"
        only = (await client.get("/incidents?open=true")).text
        assert only.count('<a href="/incidents/incident') == 1


async def test_audit_filters_by_person_and_hides_arrivals(web: WebService) -> None:
    """Arrivals of alerts are hidden by default. The filter by person finds only entries of this person."""
    from remediator.audit import Draft, Kind  # noqa: PLC0415

    await web.context.store.write(lambda tx: tx.append_audit(Draft(Kind.EPISODE_OPENED, "replica-1", data={})))
    asked = await web.request_approval()
    async with web.client() as client:
        await submit_decision(client, web.link(asked), "reject", token=web.tokens["ann"], reason="by hand")
    assert "episode.opened" not in await _get(web, "/audit")
    assert "episode.opened" in await _get(web, "/audit?intake=yes")
    assert "episode.opened" in await _get(web, "/audit?kind=episode.opened")
    mine = await _get(web, "/audit?person=ann")
    assert "approval.decided" in mine and "approval.requested" not in mine
    assert "No entries match" in await _get(web, "/audit?person=an")
    assert "form an unbroken chain" in await _get(web, "/audit"), "the check covers the hidden entries"


async def test_a_playbook_has_source_versions_and_history(web: WebService) -> None:
    """The page has the loaded source, the difference between two versions, and the people who changed the mode."""
    from remediator.playbooks.model import Playbook  # noqa: PLC0415
    from remediator.storage.repositories import playbooks  # noqa: PLC0415

    older = Playbook.model_validate({**PLAYBOOK, "summary": "Makes a little room."})
    active = web.context.playbooks.active[0]
    await web.context.store.write(lambda tx: playbooks.add_versions(tx, [older]))
    web.clock.time += timedelta(minutes=1)
    await web.context.store.write(lambda tx: playbooks.add_versions(tx, [active]))
    await web.context.store.write(
        lambda tx: autonomy.set_mode(tx, "redis-disk-full", "observe", "approve", "oscar", "too many at night")
    )
    told = await _get(web, "/playbooks/redis-disk-full")
    assert "-summary: Makes a little room." in told and "+summary: Makes room for Redis." in told
    assert "approve → observe by oscar: too many at night" in told and "action: service.restart" in told
    assert "There is no test file beside the playbook" in told
    async with web.client(headers=HTML) as client:
        assert (await client.get("/playbooks/none")).status_code == 404


async def test_the_tests_of_a_playbook_run_on_request(
    web: WebService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When an operator runs the tests, the page shows the results. A viewer cannot run them."""
    monkeypatch.setattr(playbook_pages, "TEST_TIMEOUT", 500.0)  # the process has a low priority on a busy machine
    fires = [{"labels": {"alertname": "RedisDiskFull"}}]
    test = {
        "apiVersion": "remediator/v1",
        "kind": "PlaybookTest",
        "playbook": "redis-disk-full",
        "services": {"redis": {}},
        "tests": [
            {"name": "it matches", "alerts": fires, "expect": {"matches": ["redis-disk-full"]}},
            {"name": "it heals nothing", "alerts": fires, "expect": {"matches": ["another"]}},
        ],
    }
    (tmp_path / "redis-disk-full.test.yaml").write_text(json.dumps(test))
    async with web.client(headers={**HTML, **web.bearer("victor")}) as client:
        page = await client.get("/playbooks/redis-disk-full")
        refused = await client.post("/playbooks/redis-disk-full/test", data={"nonce": nonce_of(page.text)})
        assert refused.status_code == 403
    async with web.client(headers={**HTML, **web.bearer("oscar")}) as client:
        page = await client.get("/playbooks/redis-disk-full")
        answer = await client.post("/playbooks/redis-disk-full/test", data={"nonce": nonce_of(page.text)})
        assert answer.status_code == 303, answer.text
        told = text_of((await client.get("/playbooks/redis-disk-full")).text)
    assert "1 passed, 1 failed" in told and "it heals nothing: " in told and "it matches" in told, told


async def test_statistics_show_charts_and_their_limit(web: WebService, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page has runs, times by stage, latency, blocks, causes and saved time.

    A long history is cut, and the page says so.
    """
    from remediator.web import statistics_page  # noqa: PLC0415

    await _add_runs(web, *[_run(f"run-{number:02}", number + 5, first_action_at=NOON) for number in range(20)])
    asked = await web.request_approval(cause="Old backups fill the disk")
    async with web.client() as client:
        web.clock.time += timedelta(minutes=1)
        await submit_decision(client, web.link(asked), "reject", token=web.tokens["ann"])
        page = (await client.get("/statistics?last=1d")).text
        told = text_of(page)
        for part in (
            "healed automatically",
            "Time to heal by stage",
            "plan, guards, approval",
            "Approvals",
            "Top causes",
            "Old backups fill the disk",
            "toil saved",
        ):
            assert part in told, part
        assert page.count('<svg xmlns="http://www.w3.org/2000/svg"') >= 3
        monkeypatch.setattr(statistics_page, "MAX_RUNS", 5)
        assert "Only the newest 5 runs count" in text_of((await client.get("/statistics?last=7d")).text)


async def test_health_has_channels_replicas_and_the_doctor(tmp_path: Path) -> None:
    """The page has the results of 'remediator doctor', each channel and the Watchdog. It sends no message."""
    async with web_service(
        tmp_path, channels={"chat": {"kind": "log"}}, alertmanagers=[{"url": "http://127.0.0.1:9"}]
    ) as web:
        before = await web.head()
        told = await _get(web, "/health")
        assert "chat" in told and "http://127.0.0.1:9" in told and "Watchdog" in told
        assert "Fix:" in told and "Examination" in told
        assert await web.head() == before


async def test_the_inventory_shows_health_locks_and_runs(web: WebService) -> None:
    """A service with a firing alert and a lock shows both. Another service is shown as healthy."""
    await web.request_approval(labels={"service": "redis"})
    await web.context.store.write(
        lambda tx: tx.connection.execute(update(table).where(table.c.id == "run-1").values(holds_target=True))
    )
    told = await _get(web, "/inventory")
    assert "redis being repaired" in told and "Locked by a run of redis-disk-full" in told
    assert "app no alert fires" in told


async def test_the_inventory_shows_the_first_of_many_services(web: WebService) -> None:
    """The page has discovered services with their source, even if they depend on services that are not shown."""
    content = web.context.playbooks.inventory.model_dump(mode="json", exclude_unset=True)
    discovery = {
        "kind": "file_sd",
        "files": ["targets.json"],
        "name": "a-${n}",
        "allow": {"names": ["a-*"], "labels": {"n": ["*"]}, "targets": 1000},
        "template": {"platform": {"kind": "systemd", "unit": "nginx.service"}, "depends_on": ["redis"]},
    }
    written = Inventory.model_validate({**content, "discover": {"web": discovery}})
    targets = TargetSet.of(written.discover["web"], [{"n": str(number)} for number in range(600)])
    web.context.playbooks = web.context.playbooks.with_inventory(merge(written, {"web": targets}).inventory)

    told = await _get(web, "/inventory")

    assert "Discovered by web" in told and f"{len(written.services) + 400} more services" in told
    assert "a-599" in await _get(web, "/runs?target=a-599")


async def test_the_page_of_a_run_has_a_graph(web: WebService) -> None:
    """Each stage has a state, and the waiting stage its begin. Steps are listed below their stage."""
    asked = await web.request_approval()
    told = await _get(web, f"/runs/{asked.run_id}")
    assert "plan done" in told and "guard done" in told and "approve waiting since 12:00 UTC" in told
    assert "act not reached" in told and "Delete old backups not reached" in told
    assert "result not reached" in told


async def test_a_session_for_a_shift_outlives_the_idle_limit(web: WebService) -> None:
    """With the option, a session outlives the idle limit, but never the absolute limit.

    Without the option, the idle limit ends it. A token that does not belong to the typed ID is refused.
    """
    async with web.client(headers=HTML) as client:
        page = await client.get("/sign-in")
        for name in ("username", "current-password"):
            assert f'autocomplete="{name}"' in page.text
        said = {"nonce": nonce_of(page.text), "token": web.tokens["ann"], "next": "/runs"}
        wrong = await client.post("/sign-in", data={**said, "username": "bob"})
        assert wrong.status_code == 403 and "does not belong to 'bob'" in text_of(wrong.text)
        assert 'value="bob"' in wrong.text
        missing = await client.post("/sign-in", data={**said, "token": "", "username": "ann"})
        assert missing.status_code == 422 and "The operator token is missing" in text_of(missing.text)
        for remember, kept in (("yes", True), ("", False)):
            signed = await client.post("/sign-in", data={**said, "username": "ann", "remember": remember})
            assert signed.status_code == 303
            web.clock.time += timedelta(hours=3)
            assert ("Sign out" in (await client.get("/runs")).text) is kept
            web.clock.time += timedelta(hours=10)
            assert "Sign out" not in (await client.get("/runs")).text
            page = await client.get("/sign-in")
            said["nonce"] = nonce_of(page.text)
    listed = await web.context.store.read(sessions.list_open)
    assert {item.remembered for item in listed} <= {True, False}


async def test_error_pages_have_a_next_step(web: WebService) -> None:
    """Error pages have links to continue. A rejected request leads to a new run while the alert fires."""
    asked = await web.request_approval()
    async with web.client(headers={**HTML, **web.bearer("oscar")}) as client:
        for path in ("/nothing", "/runs/run-none", "/incidents/none", "/approvals/none"):
            page = await client.get(path)
            assert page.status_code == 404 and "What you can do" in page.text and 'href="/approvals"' in page.text, path
        await submit_decision(client, f"/approvals/{asked.id}", "reject")

        def end(tx: Tx) -> None:
            tx.connection.execute(
                update(table)
                .where(table.c.id == asked.run_id)
                .values(status=Status.CANCELLED.value, finished_at=tx.now, incident_open=True)
            )

        await web.context.store.write(end)
        page = await client.get(f"/approvals/{asked.id}")
        assert f'href="/runs/{asked.run_id}#control"' in page.text and "you are asked again" in text_of(page.text)


@pytest.mark.promise(11)
async def test_the_page_of_a_run_shows_the_output_of_its_running_step(web: WebService) -> None:
    """The page shows the complete lines so far, without secrets, until the step ends."""
    asked = await web.request_approval()
    attempt = {
        "id": "attempt-live",
        "run_id": asked.run_id,
        "step": "prune",
        "number": 1,
        "action": "command.run",
        "playbook": "redis-disk-full",
        "target": "redis",
        "mutates": True,
        "is_undo": False,
        "call": {"text": "run: /usr/bin/prune"},
        "fence": 1,
        "intent_at": NOON,
    }
    await web.context.store.write(lambda tx: tx.connection.execute(insert(attempts), attempt))
    with web.context.live_output.follow("attempt-live"):
        follow = process.output_follower.get()
        assert follow is not None
        follow(f"deleted 3 of 9 files\nusing {web.tokens['ann']}\nhalf".encode())
        told = await _get(web, f"/runs/{asked.run_id}")
        assert "Output of the running step" in told and "deleted 3 of 9 files" in told
        assert web.tokens["ann"] not in told and "half" not in told
    assert "Output of the running step" not in await _get(web, f"/runs/{asked.run_id}")


def test_observations_in_a_row_are_folded() -> None:
    """Three or more observations, verdicts or messages in a row become one group. Actions are never folded."""
    kinds = ("run.matched", "evidence", "evidence", "guard.verdict", "action.intended", "evidence", "action.outcome")
    groups = grouped([TimelineItem(NOON, "act", kind, kind) for kind in kinds])
    assert [(group.folded, len(group.items)) for group in groups] == [
        (False, 1),
        (True, 3),
        (False, 1),
        (False, 1),
        (False, 1),
    ]
    assert groups[1].summary == "3 observations, guard verdicts"


async def test_a_run_is_started_by_hand_from_its_playbook(web: WebService) -> None:
    """An operator starts a run with a reason. After a wrong service, the page explains it and keeps the input."""
    async with web.client(headers={**HTML, **web.bearer("oscar")}) as client:
        page = await client.get("/playbooks/redis-disk-full")
        said = {"nonce": nonce_of(page.text), "playbook": "redis-disk-full", "reason": "disk is filling up"}
        said["next"] = "/playbooks/redis-disk-full"
        refused = await client.post("/runs", data={**said, "service": "redi"})
        assert refused.status_code == 422 and "did you mean 'redis'" in text_of(refused.text)
        page = await client.get("/playbooks/redis-disk-full")
        assert 'value="redi"' in page.text and 'value="disk is filling up"' in page.text
        started = await client.post("/runs", data={**said, "service": "redis"})
        assert started.status_code == 303
        run_id = started.headers["location"].removeprefix("/runs/")
        told = text_of((await client.get(f"/runs/{run_id}")).text)
        assert "redis-disk-full on redis" in told
    assert "disk is filling up" in await web.audit_text()
    assert "Start a run by hand" not in await _get(web, "/playbooks/redis-disk-full", "ann")


async def test_comments_and_acknowledgement_are_shown(web: WebService) -> None:
    """Approvers can comment on a run and take it. The pages of run and incident show both."""
    asked = await web.request_approval(incident="incident-1")
    async with web.client(headers={**HTML, **web.bearer("ann")}) as client:
        page = await client.get(f"/runs/{asked.run_id}")
        said = {"nonce": nonce_of(page.text)}
        for more in ({"text": "looking at the disk"}, {"text": "", "acknowledge": "yes"}):
            answer = await client.post(f"/runs/{asked.run_id}/comments", data={**said, **more})
            assert (answer.status_code, answer.headers["location"]) == (303, f"/runs/{asked.run_id}")
        for path in (f"/runs/{asked.run_id}", "/incidents/incident-1"):
            told = text_of((await client.get(path)).text)
            assert "ann: looking at the disk" in told and "ann takes care of it" in told, path
    assert "Add comment" not in await _get(web, f"/runs/{asked.run_id}", "victor")


async def test_a_finished_run_can_be_undone_from_its_page(web: WebService) -> None:
    """The page lists the actions of an undo in order, with a form to start it."""
    asked = await web.request_approval()
    made = {
        "id": "attempt-done",
        "run_id": asked.run_id,
        "step": "prune",
        "number": 1,
        "action": "service.restart",
        "playbook": "redis-disk-full",
        "target": "redis",
        "mutates": True,
        "is_undo": False,
        "call": {"text": "move 3 files"},
        "fence": 1,
        "intent_at": NOON,
        "outcome": "ok",
        "outcome_at": NOON,
    }

    def end(tx: Tx) -> None:
        tx.connection.execute(insert(attempts), made)
        ended = {"status": Status.SUCCEEDED.value, "finished_at": tx.now}
        tx.connection.execute(update(table).where(table.c.id == asked.run_id).values(**ended))

    await web.context.store.write(end)
    async with web.client(headers={**HTML, **web.bearer("oscar")}) as client:
        page = await client.get(f"/runs/{asked.run_id}")
        assert "Undo this run" in page.text and "Delete old backups: move them back" in text_of(page.text)
        answer = await client.post(
            f"/runs/{asked.run_id}/undo", data={"nonce": nonce_of(page.text), "reason": "not the cause"}
        )
        assert answer.status_code == 303, text_of(answer.text)
    assert "Undo this run" not in await _get(web, f"/runs/{asked.run_id}", "ann")
