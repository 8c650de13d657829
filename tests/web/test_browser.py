"""The console in a real browser: decisions, expiry, quorum, no JavaScript, phones, dark mode, and crawlers."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from remediator.storage.repositories import key_values, stops
from tests.support.browser import Browser, chromium, picture, serving
from tests.support.sample_messages import everything_said, links
from tests.support.web_service import BASE, WebService, submit_decision
from tests.web.test_crawlers import contents
from tests.web.test_validity import edit

pytestmark = [
    pytest.mark.browser,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

AXE = Path(__file__).parent / "axe-core/axe.min.js"
"""axe-core as npm has it, under the Mozilla Public License 2.0, unchanged; for tests only."""

PHONE = {"viewport": {"width": 360, "height": 740}, "device_scale_factor": 2, "is_mobile": True, "has_touch": True}


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


@pytest.mark.promise(6)
@pytest.mark.parametrize("script", [True, False], ids=["with JavaScript", "without JavaScript"])
async def test_a_person_approves_on_a_phone(web: WebService, address: str, browser: Browser, script: bool) -> None:
    """A person opens the page, enters a token and presses one button. The page then shows person and time."""
    asked = await web.request_approval()
    page = await browser.new_page(**PHONE, java_script_enabled=script)
    await page.goto(address + web.link(asked))
    await picture(page, f"approve-phone-{'js' if script else 'nojs'}")
    assert await page.evaluate("document.documentElement.scrollWidth") <= 360 if script else True
    await page.fill("#token", web.tokens["ann"])
    await page.click("button[value=approve]")
    await page.wait_for_selector("text=Approved at")
    await picture(page, f"approved-phone-{'js' if script else 'nojs'}")
    assert (await web.state(asked)).status == "approved"


@pytest.mark.promise(6)
@pytest.mark.parametrize("device", [{}, PHONE], ids=["keyboard", "phone"])
@pytest.mark.parametrize("script", [True, False], ids=["with JavaScript", "without JavaScript"])
async def test_enter_in_a_field_decides_nothing(
    web: WebService, address: str, browser: Browser, device: dict[str, Any], script: bool
) -> None:
    """When a person presses Enter in any field, the form is not submitted."""
    asked = await web.request_approval(destructive=True)
    page = await browser.new_page(**device, java_script_enabled=script)
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.method))
    await page.goto(address + web.link(asked))
    before = await web.head()
    await page.fill("#token", web.tokens["ann"])
    await page.fill("#typed", "redis")
    await page.click(".more summary")
    await page.fill("#reason", "no! I will do it by hand")
    for field in ("#token", "#typed", "#reason"):
        await page.press(field, "Enter")
    assert "POST" not in sent and await web.head() == before
    assert await page.input_value("#reason") == "no! I will do it by hand", "what was typed is still there"
    await page.click("button[value=reject]")
    await page.wait_for_selector("text=Rejected at")
    assert (await web.state(asked)).reason == "no! I will do it by hand"


@pytest.mark.promise(6)
async def test_a_person_rejects(web: WebService, address: str, browser: Browser) -> None:
    """A rejection takes one button."""
    asked = await web.request_approval()
    page = await browser.new_page()
    await page.goto(address + web.link(asked))
    await page.fill("#token", web.tokens["ann"])
    await page.click("button[value=reject]")
    await page.wait_for_selector("text=Rejected at")
    assert (await web.state(asked)).status == "rejected"


@pytest.mark.promise(6)
async def test_expired_and_snoozed_requests_are_explained(web: WebService, address: str, browser: Browser) -> None:
    """A form that expired while open decides nothing and shows why.

    A snoozed request has no buttons and shows when the service asks again.
    """
    asked, gone = await web.request_approval(), await web.request_approval()
    page = await browser.new_page()
    await page.goto(address + web.link(asked))
    web.clock.time += timedelta(minutes=16)
    await page.fill("#token", web.tokens["ann"])
    await page.click("button[value=approve]")
    await page.wait_for_selector("#error")
    await picture(page, "expired")
    assert (await web.state(asked)).status == "pending"
    web.clock.time -= timedelta(minutes=16)
    await page.goto(address + web.link(gone))
    await page.fill("#token", web.tokens["ann"])
    await page.click(".more summary")
    await page.click("button[value=snooze]")
    await page.wait_for_selector("text=you are asked again at")
    assert await page.locator("button[value=approve]").count() == 0
    await picture(page, "snoozed")


@pytest.mark.promise(6)
async def test_a_quorum_of_two_browsers(web: WebService, address: str, browser: Browser) -> None:
    """The first person sees that another approval is needed, and the second person decides."""
    asked = await web.request_approval(quorum=2)
    for name, wanted in (("ann", "1 of 2 approved"), ("bob", "Approved at")):
        context = await browser.new_context()
        page = await context.new_page()
        await page.goto(address + web.link(asked))
        await page.fill("#token", web.tokens[name])
        await page.click("button[value=approve]")
        await page.wait_for_selector(f"text={wanted}")
        await context.close()
    assert (await web.state(asked)).status == "approved"


async def test_a_signed_in_person_approves_with_one_tap(web: WebService, address: str, browser: Browser) -> None:
    """A signed-in person approves without typing. Stop and sign-out work too."""
    asked = await web.request_approval()
    page = await browser.new_page()
    await page.goto(f"{address}/sign-in?next=/approvals/{asked.id}")
    await page.fill("#token", web.tokens["oscar"])
    await page.click("main button.go")
    await page.wait_for_selector(".bar h2:has-text('as oscar')", state="attached")
    await picture(page, "approve-signed-in")
    await page.click("button[value=approve]")
    await page.wait_for_selector("text=Approved at")
    await page.goto(f"{address}/runs")
    await page.click("#stopper summary")
    await page.fill("#stop-reason", "looking into it")
    await page.check("#stopper input[name=confirm]")
    await page.click("button:text-is('Stop now')")
    await page.wait_for_selector("text=Release this stop")
    await picture(page, "stopped")
    await page.click("text=Release this stop")
    await page.wait_for_selector("#stopper summary:text-is('Stop actions')")
    assert not await web.context.store.read(lambda connection: stops.list_active(connection, web.clock.now()))


async def test_keyboard_shortcuts_open_pages_and_change_nothing(
    web: WebService, address: str, browser: Browser
) -> None:
    """The keys g and r open the runs, / the search, ? the list, and s the stop control.

    In a field these keys are text. They can be turned off.
    """
    page = await browser.new_page()
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.method))
    await page.goto(address)
    before = await web.head()
    await page.keyboard.press("g")
    await page.keyboard.press("r")
    await page.wait_for_url("**/runs")
    await page.keyboard.press("/")
    await page.keyboard.type("g?s")
    assert await page.input_value("#q") == "g?s"
    await page.evaluate("document.activeElement.blur()")
    await page.keyboard.press("s")
    await page.wait_for_selector("#stopper[open]")
    await page.evaluate("document.activeElement.blur()")
    await page.keyboard.press("?")
    await page.wait_for_selector("dialog[open]")
    await page.uncheck("#keys-on")
    await page.click("#keys-close")
    await page.reload()
    await page.keyboard.press("?")
    assert await page.locator("dialog[open]").count() == 0
    assert "POST" not in sent and await web.head() == before


@pytest.mark.long
@pytest.mark.promise(10)
@pytest.mark.parametrize("width", [320, 390, 1440])
async def test_the_stop_control_is_on_every_page(web: WebService, address: str, browser: Browser, width: int) -> None:
    """At every width, the control is in the first 100 pixels of each page and opens completely on the screen."""
    asked = await web.request_approval()
    page = await browser.new_page(viewport={"width": width, "height": 900})
    await page.goto(f"{address}/sign-in?next=/")
    await page.fill("#token", web.tokens["oscar"])
    await page.click("main button.go")
    await page.wait_for_selector("#stopper")
    for path in ("/", "/runs", f"/runs/{asked.run_id}", f"/approvals/{asked.id}", "/audit", "/health", "/nothing-here"):
        await page.goto(address + path)
        box = await page.locator("#stopper summary").bounding_box()
        assert box["y"] + box["height"] <= 100 and box["width"] >= 44 and box["height"] >= 36, (path, box)
        await page.click("#stopper summary")
        button = await page.locator("#stopper button").bounding_box()
        assert button["x"] >= 0 and button["x"] + button["width"] <= width, path
        assert await page.evaluate("document.documentElement.scrollWidth") <= width, path


async def test_a_run_prints_without_controls(web: WebService, address: str, browser: Browser) -> None:
    """A printed page has no header, form or button, and folded texts are open."""
    asked = await web.request_approval()
    page = await browser.new_page()
    await page.goto(f"{address}/sign-in?next=/runs/{asked.run_id}")
    await page.fill("#token", web.tokens["oscar"])
    await page.click("main button.go")
    await page.wait_for_selector("#h-graph")
    await page.emulate_media(media="print")
    assert await page.locator("button:visible").count() == 0
    assert await page.locator("nav[aria-label=Pages]:visible").count() == 0
    assert await page.locator("text=move 3 files of /backups").first.is_visible()


async def test_pages_update_themselves(web: WebService, address: str, browser: Browser) -> None:
    """An open page updates automatically. It says "All quiet" only while the Watchdog alert arrives."""
    page = await browser.new_page()
    await page.goto(address)
    await page.wait_for_selector("text=Alerts may be missing")
    await page.wait_for_selector("text=The Watchdog was never received")
    await web.context.store.write(lambda tx: key_values.set(tx, key_values.WATCHDOG, {"firing": True}))
    await page.reload()
    await page.wait_for_selector("text=All quiet")
    assert await page.locator("text=Watchdog was").count() == 0
    await web.request_approval()
    await page.wait_for_selector("h1:has-text('1 approval request pending')")


@pytest.mark.parametrize("how", ["nothing answers", "a proxy answers"])
async def test_a_page_reports_a_lost_connection(web: WebService, address: str, browser: Browser, how: str) -> None:
    """The page warns that it may be out of date. When the service is back, the page updates."""

    async def away(route: Any) -> None:
        await (route.abort() if how == "nothing answers" else route.fulfill(status=502, body="bad gateway"))

    page = await browser.new_page()
    await page.route("**/events", away)
    await page.goto(address)
    await page.wait_for_selector("#lost:not([hidden])")
    await picture(page, "cut-off")
    await page.unroute("**/events")
    await page.wait_for_selector("#lost", state="hidden")
    await web.request_approval()
    await page.wait_for_selector("h1:has-text('1 approval request pending')")
    assert await page.text_content("[role=status]") == "1 approval request pending", "for who cannot see it"


@pytest.mark.promise(6)
async def test_an_open_page_removes_an_outdated_form(
    web: WebService, address: str, browser: Browser, tmp_path: Path
) -> None:
    """If the playbook changes while a person types, the form is replaced, and screen readers announce the reason."""
    asked = await web.request_approval()
    page = await browser.new_page(**PHONE, bypass_csp=True)
    await page.goto(address + web.link(asked))
    await page.click(".more summary")
    await page.fill("#reason", "I have looked")
    await page.locator("#reason").focus()
    edit(web, tmp_path)
    await web.request_approval()  # a new audit entry makes open pages update
    await page.wait_for_selector("button[value=approve]", state="detached")
    await page.wait_for_selector("h1:has-text('Outdated')")
    assert "Outdated" in str(await page.text_content("[role=status]"))
    assert "Outdated" in await page.title()
    assert await page.text_content("#h-calls") == "Plan of this request"
    await picture(page, "outdated-phone")
    assert await page.evaluate("document.documentElement.scrollWidth") <= 360
    await page.evaluate(AXE.read_text())
    found = await page.evaluate("axe.run({resultTypes: ['violations']})")
    assert not [item["id"] for item in found["violations"] if item["impact"] in ("serious", "critical")]
    await page.fill("#token", web.tokens["ann"])
    await page.click("button[value=refresh]")
    await page.wait_for_selector("text=Outdated (the playbook has changed)")


async def test_an_open_page_shows_decisions_of_others(web: WebService, address: str, browser: Browser) -> None:
    """Decisions of others appear at once, and typed text stays. After the last one, the buttons disappear."""
    asked = await web.request_approval(quorum=2)
    page = await browser.new_page()
    await page.goto(address + web.link(asked))
    await page.click(".more summary")
    await page.fill("#reason", "I have looked")
    await page.locator("#token").focus()
    for who, told in (("ann", "1 of 2 approved"), ("bob", "Approved at")):
        async with web.client() as other:
            assert (await submit_decision(other, web.link(asked), "approve", token=web.tokens[who])).status_code == 303
        if who == "bob":
            await page.evaluate("document.activeElement.blur()")
        await page.wait_for_selector(f"text={told}")
        if who == "ann":
            assert await page.input_value("#reason") == "I have looked"
    await page.wait_for_selector("button[value=approve]", state="detached")


@pytest.mark.long
@pytest.mark.promise(6)
async def test_crawlers_decide_nothing(web: WebService, address: str, browser: Browser, tmp_path: Path) -> None:
    """Crawlers change no row of the database.

    They use GET, HEAD and prefetch on all links in all messages. Then a robot with JavaScript submits all forms.
    """
    asked, said = await everything_said(web, "slack", tmp_path)
    found = [*sorted(links(said)), BASE + web.link(asked, "person:ann")]
    assert sum("/approve/" in link for link in found) >= 7 and any("/runs/" in link for link in found)
    before = await web.context.store.read(contents)
    page = await browser.new_page()
    for link in (link.replace(BASE, address) for link in found):
        await _look(page, link)
        await page.evaluate(
            """async (link) => {
                for (const method of ['GET', 'HEAD']) await fetch(link, {method});
                const hint = document.createElement('link'); hint.rel = 'prefetch'; hint.href = link;
                document.head.append(hint);
                const asked = [...document.querySelectorAll('a')].map((item) => item.href);
                for (const href of asked.filter((href) => href.startsWith(location.origin)))
                    await fetch(href).catch(() => 0);
            }""",
            link,
        )
        for number in range(await page.locator("form button:not([disabled])").count()):
            await _look(page, link)
            await page.evaluate("document.querySelectorAll('form').forEach((form) => { form.noValidate = true; })")
            await page.evaluate("document.querySelectorAll('details').forEach((item) => { item.open = true; })")
            async with page.expect_navigation():
                await page.locator("form button:not([disabled])").nth(number).click()
        for number in range(await page.locator("form").count()):
            await _look(page, link)
            async with page.expect_navigation():
                await page.evaluate("(number) => document.forms[number].submit()", number)
        await _look(page, link)
    assert await web.context.store.read(contents) == before
    assert (await web.state(asked)).status == "pending"


async def _look(page: Any, link: str) -> None:
    answer = await page.goto(link)
    assert answer is not None and answer.status == 200, link


@pytest.mark.long
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_pages_are_accessible_and_fit_a_phone(
    web: WebService, address: str, browser: Browser, scheme: str
) -> None:
    """axe finds no serious problem, no page is wider than a phone, and no content policy is violated."""
    axe = AXE.read_text()
    asked = await web.request_approval(quorum=2, labels={"path": "/a/very/long/path" * 12, "k" * 80: "v" * 200})
    await web.context.store.write(lambda tx: stops.create(tx, "stop-1", "service", "redis", "A" * 300, "a" * 150))
    paths = ["/", "/runs", f"/runs/{asked.run_id}", "/playbooks", "/inventory", "/audit", web.link(asked), "/sign-in"]
    paths += ["/approvals", "/incidents", "/alerts/episode-1", "/playbooks/redis-disk-full", "/statistics", "/health"]
    paths += [f"/incidents/{asked.run_id}", "/nothing-here"]
    context = await browser.new_context(**PHONE, color_scheme=scheme, bypass_csp=True)
    page = await context.new_page()
    wide = await (await browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme=scheme)).new_page()
    said: list[str] = []
    wide.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
    for path in paths:
        name = path.strip("/").split("/")[0] or "overview"
        name = {"/runs/": "run", "/playbooks/": "playbook", "/incidents/": "incident"}.get(
            path[: path.rfind("/") + 1], name
        )
        await wide.goto(address + path)
        await picture(wide, f"{name}-{scheme}")
        await page.goto(address + path)
        await picture(page, f"{name}-phone-{scheme}")
        assert await page.evaluate("document.documentElement.scrollWidth") <= 360, path
        await page.evaluate(axe)
        found = await page.evaluate("axe.run({resultTypes: ['violations']})")
        bad = [item for item in found["violations"] if item["impact"] in ("serious", "critical")]
        told = json.dumps([(item["id"], [node["html"] for node in item["nodes"]][:3]) for item in bad], indent=1)
        assert not bad, f"{path}: {told}"
    assert not [text for text in said if "Content Security Policy" in text]
