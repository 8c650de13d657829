"""The trial of an on-call engineer: every kind of channel, real faults, the real service and a real browser.

Redis runs under supervisord, Alertmanager fires, and a recorder on loopback replaces each chat, pager and mail server.
`docs/trial.md` describes the results line by line.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from email import message_from_bytes
from email.policy import default
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiosmtpd.controller import Controller

from demo.http_server import QuietHandler, serve
from remediator.core.identity import hash_token, make_token
from tests.extensions.notifiers.test_notifiers import ANSWERS, KINDS, Mailbox, settings
from tests.support.browser import Browser, chromium, picture
from tests.support.servers import free_port, until
from tests.support.servers.remediator import PLAYBOOK, Stack
from tests.web.test_browser import AXE

pytestmark = [
    pytest.mark.browser,
    pytest.mark.process,
    pytest.mark.long,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore:.*imghdr:DeprecationWarning"),
]
PEOPLE = {"ann": ["approver"], "oscar": ["operator", "approver"]}
TOKENS = {name: make_token() for name in PEOPLE}
DEVICES: Mapping[str, dict[str, Any]] = {
    "390": {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True},
    "1440": {"viewport": {"width": 1440, "height": 900}},
}
EDITED = {"slack", "telegram", "discord"}
"""Kinds of channels whose messages are changed in place."""


@dataclass
class Recorder:
    """A replacement for one external service, which stores each request and answers as that service does."""

    kind: str
    url: str = ""
    received: list[tuple[str, str, Any]] = field(default_factory=list)
    """Method, path and JSON body."""

    def texts(self) -> list[str]:
        """Return the received texts, without the backslashes of Markdown and the PagerDuty key in the body."""
        bodies = [{name: part for name, part in body.items() if name != "routing_key"} for _, _, body in self.received]
        found = (json.dumps(body, ensure_ascii=False) for body in bodies)
        return [text.replace("\\\\", "") for text in found]


@contextmanager
def recording(kind: str) -> Iterator[Recorder]:
    """Run a recorder on a free port of loopback."""
    kept = Recorder(kind)

    class Handler(QuietHandler):
        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            path, answer = self.path, dict(ANSWERS.get(kind, {}))
            if path.endswith("/getUpdates"):
                time.sleep(0.3)  # a long poll without news
                answer = {"ok": True, "result": []}
            elif self.headers.get("Content-Type", "").startswith("application/json"):
                kept.received.append((self.command, path, json.loads(raw)))
            body = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            with suppress(BrokenPipeError):  # the service may stop during a long poll
                self.wfile.write(body)

        do_PATCH = do_PUT = do_POST

    with serve(Handler) as url:
        kept.url = url
        yield kept


@dataclass
class Trial:
    """The stack, and the messages that each kind of channel received."""

    stack: Stack
    recorders: Mapping[str, Recorder]
    box: Mailbox

    def said(self, kind: str) -> list[str]:
        """Return the texts that a kind of channel received, in order."""
        if kind == "email":
            mails = [message_from_bytes(raw, policy=default) for raw in list(self.box.mails)]
            return [f"{mail['Subject']}\n{mail.get_body(('plain',)).get_content()}" for mail in mails]
        if kind == "log":
            return [line for line in self.stack.remediator.log.splitlines() if "body" in line]
        return self.recorders[kind].texts()

    def all_say(self, text: str, but: tuple[str, ...] = ()) -> None:
        """Wait until every kind of channel has received a text."""
        for kind in sorted(set(KINDS) - set(but)):
            until(lambda kind=kind: any(text in item for item in self.said(kind)), f"{kind} says {text!r}")

    def link(self, kind: str = "webhook", number: int = 1) -> str:
        """Return the n-th link to a request that a channel received."""
        found: list[str] = []

        def arrived() -> bool:
            links = re.findall(r"http://[^\s\"'<>|)\\]+/approve/[\w.-]+", " ".join(self.said(kind)))
            found[:] = list(dict.fromkeys(links))
            return len(found) >= number

        until(arrived, "a link arrives")
        return found[number - 1]

    def break_redis(self) -> None:
        """Kill Redis permanently, and make the alert fire."""
        self.stack.control("stop")
        self.fire()

    def fire(self) -> None:
        """Make the alert fire."""
        self.stack.alertmanager.send(
            labels={"alertname": "RedisDown", "instance": "redis:6379", "severity": "critical"},
            annotations={"summary": "Redis does not answer", "runbook_url": "https://wiki.example.com/redis"},
        )


@pytest.fixture
def trial(tmp_path: Path) -> Iterator[Trial]:
    """Return a started stack with all kinds of channels."""
    stack, box = Stack(tmp_path), Mailbox()
    remediator = stack.remediator
    with ExitStack() as held:
        recorders = {kind: held.enter_context(recording(kind)) for kind in sorted(set(KINDS) - {"email", "log"})}
        mail = Controller(box, "127.0.0.1", port := free_port())
        mail.start()
        held.callback(mail.stop)
        channels = {kind: _channel(kind, remediator.folder, recorders, port) for kind in sorted(KINDS)}
        remediator.playbooks = [{**PLAYBOOK, "mode": "approve"}]
        pagers = ["pagerduty", "opsgenie"]
        remediator.settings |= {
            "public_url": remediator.url,
            "channels": channels,
            "approvals": {
                "channels": sorted(set(KINDS) - set(pagers)),
                "page_channels": pagers,
                "time_to_page": {"critical": "4s"},
                "remind_after": "0s",
            },
            "access": {"people": "people.yaml"},
        }
        people = {
            name: {"roles": roles, "tokens": [hash_token(TOKENS[name])], "slack": f"T01/U{name.upper()}"}
            for name, roles in PEOPLE.items()
        }
        (remediator.folder / "people.yaml").write_text(yaml.safe_dump({"kind": "People", "people": people}))
        held.callback(stack.stop)
        stack.start()
        yield Trial(stack, recorders, box)


def _channel(kind: str, folder: Path, recorders: Mapping[str, Recorder], port: int) -> dict[str, Any]:
    place = folder / f"channel-{kind}"
    place.mkdir()
    given = {"kind": kind, **settings(kind, place)}
    if kind == "email":
        return {**given, "port": port}
    if kind == "log":
        return given
    url = recorders[kind].url
    if kind == "apprise":
        (place / "urls").write_text(url.replace("http://", "json://"))
    elif "url_file" in given:
        (place / "hook").write_text(f"{url}/services/s3cret-of-the-channel")
    else:
        given["api"] = url
    return given | ({"buttons": True} if kind == "telegram" else {})


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    """Return a running Chromium."""
    async with chromium() as made:
        yield made


async def _axe(page: Any, where: str) -> None:
    await page.evaluate(AXE.read_text())
    found = await page.evaluate("axe.run({resultTypes: ['violations']})")
    bad = [item for item in found["violations"] if item["impact"] in ("serious", "critical")]
    assert not bad, f"{where}: {[(item['id'], item['nodes'][0]['html']) for item in bad]}"


async def _visit(browser: Browser, address: str, paths: Mapping[str, str]) -> None:
    """Check pages at 390 and 1440 px, light and dark: none is too wide, and axe finds no serious problem."""
    for width, device in DEVICES.items():
        for scheme in ("light", "dark"):
            context = await browser.new_context(**device, color_scheme=scheme, bypass_csp=True)
            page = await context.new_page()
            await _sign_in(page, address, "oscar")
            for name, path in paths.items():
                await page.goto(address + path)
                assert await page.evaluate("document.documentElement.scrollWidth") <= int(width), (name, width)
                header = await page.locator("header.top").bounding_box()
                assert header is not None and header["height"] <= 110, f"the header of {name} breaks its words"
                await picture(page, f"trial-{name}-{width}-{scheme}", full_page=False)
                await _axe(page, f"{name}, {width} px, {scheme}")
            await context.close()


async def _sign_in(page: Any, address: str, who: str) -> None:
    await page.goto(f"{address}/sign-in?next=/")
    await page.fill("#token", TOKENS[who])
    await page.click("main button.go")
    await page.wait_for_url(f"{address}/")


async def _in_thread(work: Callable[[], Any]) -> Any:
    return await asyncio.to_thread(work)


@pytest.mark.promise(13)
async def test_an_incident_is_asked_about_paged_approved_and_healed(trial: Trial, browser: Browser) -> None:
    """All channels get the incident and its end, a person decides on a phone, and the pager's incident is resolved."""
    remediator = trial.stack.remediator
    await _in_thread(trial.break_redis)
    await _in_thread(lambda: trial.all_say("Approve? redis-down on redis", but=("pagerduty", "opsgenie")))
    for pager in ("pagerduty", "opsgenie"):
        await _in_thread(lambda pager=pager: until(lambda: bool(trial.said(pager)), f"{pager} pages"))
    for kind in sorted(set(KINDS) - {"log"}):
        text = " ".join(trial.said(kind))
        assert "Redis does not answer" in text, f"{kind} does not quote the alert"
        assert "s3cret" not in text, f"{kind} tells a secret"
    assert trial.link("slack") != trial.link("telegram"), "each channel has links of its own"

    run = await _in_thread(lambda: remediator.wait_for("awaiting_approval"))
    pages = {
        "overview": "/",
        "approvals": "/approvals",
        "runs": "/runs",
        "run": f"/runs/{run['id']}",
        "incidents": "/incidents",
        "incident": f"/incidents/{run['incident']}",
        "playbooks": "/playbooks",
        "playbook": "/playbooks/redis-down",
        "inventory": "/inventory",
        "audit": "/audit",
        "statistics": "/statistics",
        "health": "/health",
    }
    await _visit(browser, remediator.url, pages)

    phone = await (await browser.new_context(**DEVICES["390"])).new_page()
    await phone.goto(trial.link("mattermost"))
    assert re.match(r"\(1\) |.*Approve", await phone.title())
    shown = " ".join((await phone.inner_text("#brief")).split())
    for part in ("Redis does not answer", "Redis does not run or hangs.", "Nothing is done to redis."):
        assert part in shown, shown
    box = await phone.locator("button[value=approve]").bounding_box()
    assert box is not None and box["y"] + box["height"] <= 844, "both buttons are on the first screen"
    await phone.click(".more summary")
    assert "Services, alerts and this request do not change" in await phone.inner_text(".more")
    await phone.fill("#reason", "seen on my phone")
    await phone.press("#reason", "Enter")
    assert remediator.runs()[0]["status"] == "awaiting_approval", "Enter decides nothing"
    await phone.fill("#token", TOKENS["ann"])
    await phone.click("button[value=approve]")
    await phone.wait_for_selector("text=Approved at")

    await _in_thread(lambda: remediator.wait_for("succeeded"))
    assert trial.stack.redis()["statename"] == "RUNNING"
    await _in_thread(lambda: trial.all_say("Healed", but=("pagerduty", "opsgenie")))
    await _in_thread(lambda: until(lambda: len(trial.said("pagerduty")) >= 2, "PagerDuty gets the end"))
    opsgenie = trial.recorders["opsgenie"].received
    await _in_thread(lambda: until(lambda: "/close" in opsgenie[-1][1], "Opsgenie gets the end"))
    events = [body for _, _, body in trial.recorders["pagerduty"].received]
    assert len({event["dedup_key"] for event in events}) == 1
    assert (events[0]["event_action"], events[-1]["event_action"]) == ("trigger", "resolve")
    assert events[0]["payload"]["severity"] == "critical"
    for kind in sorted(set(KINDS) - {"log", "webhook"}):
        whole = [text for text in trial.said(kind) if "Planned calls" in text]
        assert len(whole) == 1, f"{kind} got the whole card {len(whole)} times"
    for kind in EDITED:
        changed = [path for method, path, _ in trial.recorders[kind].received if method == "PATCH" or "dit" in path]
        updated = [path for _, path, _ in trial.recorders[kind].received if path.endswith("chat.update")]
        assert changed or updated, f"the message of {kind} was not changed in place"
    await _visit(browser, remediator.url, {"healed-run": f"/runs/{run['id']}", "statistics-after": "/statistics"})


@pytest.mark.promise(13)
async def test_a_rejection_a_stop_and_a_start_by_hand(trial: Trial, browser: Browser) -> None:
    """All channels get the reason and the stop, the stop holds, and a person starts a run that succeeds."""
    remediator, address = trial.stack.remediator, trial.stack.remediator.url
    await _in_thread(trial.break_redis)
    link = await _in_thread(trial.link)
    page = await (await browser.new_context(**DEVICES["1440"])).new_page()
    await _sign_in(page, address, "oscar")
    await page.goto(link)
    await page.click(".more summary")
    await page.fill("#reason", "I repair it by hand")
    await page.click("button[value=reject]")
    await page.wait_for_selector("text=Rejected")
    ended = await _in_thread(lambda: remediator.wait_for("cancelled"))
    assert ended["reason"] == "rejected" and trial.stack.redis()["statename"] == "STOPPED"
    await page.reload()
    assert "start a new run" in await page.inner_text("main"), "the page has a next step"
    await _in_thread(lambda: trial.all_say("I repair it by hand", but=("pagerduty", "opsgenie")))

    await page.goto(f"{address}/")
    await page.click("#stopper summary")
    await page.fill("#stop-reason", "migration of the cluster")
    await page.check("#stopper input[name=confirm]")
    await page.click("#stopper button.danger")
    await page.wait_for_selector("#stopper summary.stopped")
    await _in_thread(lambda: trial.all_say("migration of the cluster", but=("pagerduty", "opsgenie")))
    await _visit(browser, address, {"stopped": "/"})

    status, said = await _in_thread(lambda: _start(remediator))
    assert status == 200, said
    blocked = await _in_thread(lambda: remediator.wait_for("blocked"))
    assert blocked["blocked_by"] == "kill_switch" and trial.stack.redis()["statename"] == "STOPPED"


def _start(remediator: Any) -> tuple[int, Any]:
    body = json.dumps({"playbook": "redis-down", "reason": "by hand"}).encode()
    return remediator.post(body, "/api/v1/runs", TOKENS["oscar"])  # type: ignore[no-any-return]
