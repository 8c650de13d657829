"""A decision on a phone takes ten seconds: the first screen of a request, measured in a real browser.

The four requests are those of ``docs/approvals.md``: one step, four steps, one that destroys data, and one whose cost
is above the tolerance. The pictures are those of the documentation.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Mapping
from typing import Any

import msgspec
import pytest

from remediator.core.approval import ApprovalStatus
from remediator.core.cost import Cost
from remediator.core.plan import PlannedCall, PlannedStep
from tests.support.browser import Browser, chromium, picture, serving
from tests.support.web_service import WebService, step
from tests.web.test_browser import AXE

pytestmark = [
    pytest.mark.browser,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

PHONE = {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 2, "is_mobile": True, "has_touch": True}
SCRIPT = (
    pytest.param(True, id="with JavaScript"),
    pytest.param(False, id="without JavaScript", marks=pytest.mark.long),
)
DESK = {"viewport": {"width": 1440, "height": 900}}
MAX_WORDS = 120
"""Words from the heading to the buttons. An adult reads about 240 a minute, so 120 take half a minute in full; the
marked words (what, do, cost, deadline) are far fewer. Before, there were 420 words and 3,265 pixels."""


def _step(name: str, title: str, call: str, undo: str | None, **more: Any) -> PlannedStep:
    made = msgspec.structs.replace(step(), id=name, title=title, call=PlannedCall(call, {}, {}, undo))
    return msgspec.structs.replace(made, **more)


RESTART = _step(
    "restart",
    "Restart Redis",
    "supervisor: stop and start process 'redis' (PID 4711)",
    None,
    cost=Cost(clients=214, unsaved_writes=0, sole_instance=True),
)
REQUESTS: Mapping[str, dict[str, Any]] = {
    "one-step": {
        "summary": "The disk of Redis is 97 % full",
        "cause": "Redis holds deleted files open: 310 MiB of 1 GiB",
        "measured": "97 % of 1 GiB used",
        "steps": [RESTART],
    },
    "four-steps": {
        "summary": "The disk of Redis is 97 % full",
        "cause": "Old backups fill the disk: 800 MiB of 1 GiB",
        "steps": [
            _step(
                "prune", "Move old backups to quarantine", "move 3 files of /backups to quarantine", "move them back"
            ),
            _step("rewrite", "Rewrite the append-only file", "redis: BGREWRITEAOF", None, on_success="next"),
            _step("evict", "Delete expired keys now", "redis: SCAN with TTL, then EXPIRE 0", None),
            msgspec.structs.replace(RESTART, title="Restart Redis to release deleted files"),
        ],
    },
    "destroys-data": {
        "summary": "The disk of Redis is 99 % full, writes are refused",
        "cause": "The key session-log has 700 MiB, and each rewrite of the data stores it again",
        "steps": [_step("delete", "Delete the key session-log", "redis: UNLINK session-log", None, destructive=True)],
        "measured": "MEMORY USAGE session-log: 734,003,200 bytes",
    },
    "above-tolerance": {
        "summary": "The disk of Redis is 100 % full",
        "cause": "Redis holds deleted files open, and cannot save 3,100 writes",
        "steps": [
            msgspec.structs.replace(
                RESTART, cost=Cost(unsaved_writes=3100, clients=214, cannot_save=True), tolerance={"unsaved_writes": 0}
            )
        ],
        "measured": "100 % of 1 GiB used, last save 3 h ago",
    },
}


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    """Return a running Chromium."""
    async with chromium() as made:
        yield made


@pytest.fixture
async def address(web: WebService) -> AsyncIterator[str]:
    """Return the URL of the served application."""
    async with serving(web) as url:
        yield url


MEASURE = """() => {
    const box = (item) => item.getBoundingClientRect();
    const go = document.querySelector('button[value=approve]'), no = document.querySelector('button[value=reject]');
    const brief = document.getElementById('brief');
    const shown = [document.querySelector('h1'), brief].map((item) => item.innerText).join(' ');
    return {
        words: shown.split(/\\s+/).filter(Boolean).length,
        approve: [box(go).top, box(go).bottom], reject: [box(no).top, box(no).bottom],
        brief: box(brief).bottom, bar: box(document.getElementById('live-form')).top,
        screen: innerHeight, width: document.documentElement.scrollWidth, shown,
    };
}"""


@pytest.mark.promise(6)
@pytest.mark.parametrize("script", SCRIPT)
@pytest.mark.parametrize("name", REQUESTS)
async def test_the_first_screen_of_a_phone_is_enough(
    web: WebService, address: str, browser: Browser, name: str, script: bool
) -> None:
    """Without scrolling, the page shows fault, cause, steps, cost and deadline, and both buttons at the bottom."""
    asked = await web.request_approval(**REQUESTS[name], incident=name)
    page = await browser.new_page(**PHONE, java_script_enabled=script)
    for who in ("a stranger with the link", "oscar"):
        if who == "oscar":
            await page.goto(f"{address}/sign-in?next=/approvals/{asked.id}")
            await page.fill("#token", web.tokens["oscar"])
            await page.click("main button.go")
        else:
            await page.goto(address + web.link(asked))
        await page.wait_for_selector("button[value=approve]")
        told = await page.evaluate(MEASURE) if script else await _measure(page)
        assert told["approve"][1] <= 844 and told["reject"][1] <= 844, f"{who}: {told}"
        assert told["approve"][0] > 844 / 2, "the buttons are at the bottom, where a thumb reaches them"
        assert told["brief"] <= told["bar"], f"{who}: the buttons cover what has to be read: {told}"
        assert told["width"] <= 390
        assert told["words"] <= MAX_WORDS, f"{told['words']} words: {told['shown']}"
        words = " ".join(told["shown"].split())
        for part in (
            REQUESTS[name]["summary"],
            REQUESTS[name]["cause"],
            "Nothing is done to redis.",
            "escalated to oncall",
        ):
            assert part in words, part
        assert re.search(r"\(in 1[45]m", words), words
        for planned in REQUESTS[name]["steps"]:
            assert planned.title in told["shown"]
            assert planned.call.text not in told["shown"], "the exact call is folded"
        await page.click(".exact summary")
        await page.wait_for_selector(f"pre.call:visible:has-text({json.dumps(REQUESTS[name]['steps'][0].call.text)})")


async def _measure(page: Any) -> dict[str, Any]:
    """Return the layout that the browser reports, without JavaScript in the page."""
    boxes = {
        name: await page.locator(selector).bounding_box()
        for name, selector in {
            "approve": "button[value=approve]",
            "reject": "button[value=reject]",
            "brief": "#brief",
            "bar": "#live-form",
        }.items()
    }
    shown = f"{await page.inner_text('h1')} {await page.inner_text('#brief')}"
    ends = {name: (box["y"], box["y"] + box["height"]) for name, box in boxes.items()}
    return {
        "words": len(shown.split()),
        "approve": ends["approve"],
        "reject": ends["reject"],
        "brief": ends["brief"][1],
        "bar": ends["bar"][0],
        "width": (await page.locator("html").bounding_box())["width"],
        "shown": shown,
    }


async def test_only_what_is_needed_is_asked_for(web: WebService, address: str, browser: Browser) -> None:
    """A signed-in person types nothing, except the name of the target for a step that can lose data."""
    page = await browser.new_page(**PHONE)
    plain = await web.request_approval(**REQUESTS["one-step"])
    await page.goto(f"{address}/sign-in?next=/approvals/{plain.id}")
    await page.fill("#token", web.tokens["oscar"])
    await page.click("main button.go")
    await page.wait_for_selector("button[value=approve]")
    assert await page.locator(".bar input:visible").count() == 0
    destroys = await web.request_approval(**REQUESTS["destroys-data"])
    await page.goto(f"{address}/approvals/{destroys.id}")
    assert await page.locator(".bar input:visible").get_attribute("id") == "typed"
    assert "DESTROYS DATA" in await page.inner_text(".brief .bad")


@pytest.mark.long
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("device", [PHONE, DESK], ids=["390 px", "1440 px"])
async def test_the_requests_are_accessible(
    web: WebService, address: str, browser: Browser, device: dict[str, Any], scheme: str
) -> None:
    """axe finds no serious problem at 390 and 1440 px, light and dark. The documentation uses the pictures."""
    context = await browser.new_context(**device, color_scheme=scheme, bypass_csp=True)
    page = await context.new_page()
    await page.goto(f"{address}/sign-in?next=/")
    await page.fill("#token", web.tokens["oscar"])
    await page.click("main button.go")
    for name, request in REQUESTS.items():
        asked = await web.request_approval(**request, incident=name)
        await page.goto(f"{address}/approvals/{asked.id}")
        await picture(page, f"ten-seconds-{name}-{device['viewport']['width']}-{scheme}", full_page=False)
        await page.evaluate(AXE.read_text())
        found = await page.evaluate("axe.run({resultTypes: ['violations']})")
        bad = [
            (item["id"], item["nodes"][0]["html"])
            for item in found["violations"]
            if item["impact"] in ("serious", "critical")
        ]
        assert not bad, bad
        await web.context.store.write(lambda tx, asked=asked: _close(tx, asked))


def _close(tx: Any, asked: Any) -> None:
    """End a request, so that only the next request is open."""
    from remediator.storage.repositories import approvals  # noqa: PLC0415

    approvals.close(tx, asked, ApprovalStatus.EXPIRED, None)


async def test_times_are_local_and_count_down(web: WebService, address: str, browser: Browser) -> None:
    """The page shows the deadline in the reader's time zone, and the remaining time."""
    asked = await web.request_approval(**REQUESTS["one-step"])
    context = await browser.new_context(**PHONE, timezone_id="Asia/Tokyo", locale="en-GB")
    page = await context.new_page()
    await page.goto(address + web.link(asked))
    deadline = await page.inner_text(".brief > div:last-child dd")
    assert "21:15" in deadline and ("GMT+9" in deadline or "JST" in deadline), deadline
    await page.wait_for_selector("[role=timer]:text-matches('in 14m[0-9]+s')")
    assert "Asia/Tokyo" in await page.inner_text("footer")
    assert (await page.title()).startswith("(1) Approve ")
    assert "icon-waiting" in str(await page.get_attribute("link[rel=icon]", "href"))


@pytest.mark.promise(6)
@pytest.mark.parametrize("script", SCRIPT)
async def test_nothing_typed_is_lost(web: WebService, address: str, browser: Browser, script: bool) -> None:
    """After a wrong token, a missing token or a sign-in, reason and typed name stay.

    The page distinguishes between a wrong and a missing token. The final decision has the reason.
    """
    asked = await web.request_approval(**REQUESTS["destroys-data"])
    page = await browser.new_page(**PHONE, java_script_enabled=script)
    await page.goto(address + web.link(asked))
    await page.click(".more summary")
    await page.fill("#reason", "the key is a log, nobody needs it")
    await page.fill("#typed", "redis")
    for token, told in (("", "token is missing"), ("letmein", "must start with rmo_"), ("rmo_x", "is unknown")):
        await page.fill("#token", token)
        await page.click("button[value=approve]")
        await page.wait_for_selector(f"#error:has-text('{told}')")
        assert await page.input_value("#typed") == "redis"
        assert await page.input_value("#reason") == "the key is a log, nobody needs it"
    await page.click("button[value=sign_in]")
    await page.wait_for_selector("text=Your input is kept")
    await page.fill("#token", web.tokens["oscar"])
    await page.click("main button.go")
    await page.wait_for_selector(".bar h2:has-text('as oscar')", state="attached")
    assert await page.input_value("#typed") == "redis"
    await page.click("button[value=approve]")
    await page.wait_for_selector("text=Approved at")
    assert (await web.state(asked)).status == "approved"
    assert "the key is a log" in await page.inner_text(".said")


async def test_a_decided_request_has_a_next_step(web: WebService, address: str, browser: Browser) -> None:
    """The page of a rejected or expired request leads to a new run while the alert fires."""
    asked = await web.request_approval(**REQUESTS["one-step"])
    page = await browser.new_page(**PHONE)
    await page.goto(f"{address}/sign-in?next=/approvals/{asked.id}")
    await page.fill("#token", web.tokens["oscar"])
    await page.click("main button.go")
    await page.click("button[value=reject]")
    await page.wait_for_selector("text=Rejected at")
    assert await page.locator("#h-next").count() == 1
    assert await page.locator(f"main a[href='/runs/{asked.run_id}']").count() >= 1
    await page.goto(f"{address}/nothing-here")
    assert await page.locator("main a[href='/approvals']").count() == 1
