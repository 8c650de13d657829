"""The documentation site builds without warnings, its links work, and its search answers newcomers.

``test_commands.py`` checks the commands on the pages.
"""

from __future__ import annotations

import functools
import json
import re
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urldefrag, urlsplit

import pytest

from tests.support.browser import chromium
from tests.support.site import LATEST, ROOT, _write_versions, current_version, llms, nav_pages, pages_without_nav

QUESTIONS = {
    "route only some alerts": "how-to/route-some-alerts.html",
    "grafana alerting webhook": "how-to/receive-alerts-from-grafana-and-others.html",
    "datadog zabbix cloudwatch": "how-to/receive-alerts-from-grafana-and-others.html",
    "regular expression matcher": "how-to/match-with-regex.html",
    "discover targets": "how-to/discover-targets.html",
    "only at night": "how-to/act-only-at-night.html",
    "two approvers": "how-to/two-approvers.html",
    "test that it does not run": "how-to/test-that-it-does-not-run.html",
    "alert resolves": "how-to/when-an-alert-resolves.html",
    "run own script": "how-to/run-own-commands.html",
    "other hosts ssh": "how-to/act-on-other-hosts.html",
    "kubernetes job remedy": "how-to/run-a-kubernetes-job.html",
    "drain node": "how-to/drain-kubernetes-nodes.html",
    "kubernetes rbac": "how-to/give-rights-on-kubernetes.html",
    "act on postgresql": "how-to/act-on-postgresql.html",
    "add another database": "how-to/add-another-database.html",
    "compose": "deployment.html",
    "kubernetes install": "deployment.html",
    "helm chart": "how-to/install-with-helm.html",
    "postgresql replicas": "how-to/run-replicas-on-postgresql.html",
    "pgbouncer": "how-to/run-behind-pgbouncer.html",
    "slack socket": "how-to/use-slack-without-an-open-port.html",
    "path prefix reverse proxy": "how-to/run-behind-a-proxy.html",
    "openid connect sign in": "how-to/sign-in-with-oidc.html",
    "rotate secrets": "how-to/rotate-secrets.html",
    "upgrade": "how-to/upgrade.html",
    "restore backup": "how-to/back-up-and-restore.html",
    "game day": "how-to/game-day.html",
    "start a run by hand": "how-to/start-and-undo-by-hand.html",
    "commands from a laptop": "how-to/use-commands-from-a-laptop.html",
    "write an action": "plugins.html",
}
"""Questions that a newcomer types into the search, each with a page that must be among the first results."""
FIRST = 3
RESULTS = "a[role=option]"
"""The links that the search of the theme shows."""
"""How many results a person reads before the next attempt."""


class _Page(HTMLParser):
    """A parser that collects the links and the anchors of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if values.get("id"):
            self.anchors.add(str(values["id"]))
        for name in ("href", "src"):
            if values.get(name):
                self.links.append(str(values[name]))


def _parse(path: Path) -> _Page:
    page = _Page()
    page.feed(path.read_text(encoding="utf-8"))
    return page


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site into a new folder."""
    folder = tmp_path_factory.mktemp("site")
    made = subprocess.run(
        [sys.executable, "-m", "tests.support.site", str(folder)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert made.returncode == 0, made.stdout + made.stderr
    return folder / current_version()


def test_every_page_is_in_the_navigation() -> None:
    """Each page is in the navigation. If this fails: add the page to ``nav`` in zensical.toml."""
    assert pages_without_nav() == []
    assert [page for page in nav_pages().values() if not (ROOT / "docs" / page).is_file()] == []


def test_the_list_for_language_models_is_current() -> None:
    """docs/llms.txt is current. If this fails: python -m tests.support.site --llms"""
    assert (ROOT / "docs/llms.txt").read_text(encoding="utf-8") == llms()


def test_links_lead_to_a_page_and_an_anchor(site: Path) -> None:
    """Links inside the site lead to a page and anchor. Links to other sites use https, except on this machine."""
    pages = {path: _parse(path) for path in site.rglob("*.html")}
    assert len(pages) >= len(nav_pages())
    broken = []
    for path, page in pages.items():
        for link in page.links:
            if re.match(r"(https|mailto|data):|http://127\.0\.0\.1:", link):
                continue
            address, anchor = urldefrag(link)
            base = site if address.startswith("/") else path.parent
            target = (base / unquote(address.lstrip("/"))).resolve() if address else path
            target = target / "index.html" if target.is_dir() else target
            if not target.exists():
                broken.append(f"{path.relative_to(site)}: {link}")
            elif anchor and target in pages and unquote(anchor) not in pages[target].anchors:
                broken.append(f"{path.relative_to(site)}: {link} has no such heading")
    assert broken == []


def test_pages_load_nothing_from_other_sites(site: Path) -> None:
    """Scripts, styles, fonts and images are files of the site."""
    loaded = re.compile(
        r'<(?:script|img|source)[^>]+src="(https?:[^"]+)|<link[^>]+rel="(?:stylesheet|preconnect)"[^>]+href="(https?:[^"]+)'
    )
    assert [(path.name, found) for path in site.rglob("*.html") for found in loaded.findall(path.read_text())] == []


@pytest.fixture
def address(site: Path) -> Iterator[str]:
    """Serve the built site on a free port of loopback."""
    with _served(site) as found:
        yield found


@contextmanager
def _served(folder: Path) -> Iterator[str]:
    handler = functools.partial(_Quiet, directory=str(folder))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Write nothing."""


async def search(page: Any, address: str, question: str) -> list[str]:
    """Type a question into the search, wait until the results stay the same, and return their pages."""
    await page.goto(address)
    entry = page.locator("input[type=search], input[role=combobox], [role=dialog] input").first
    while not await entry.is_visible():  # the script that handles the key may not have started yet
        await page.keyboard.press("/")
        await page.wait_for_timeout(200)
    await entry.fill(question)
    before: list[str] | None = None
    while True:
        addresses = await page.locator(RESULTS).evaluate_all("links => links.map(link => link.getAttribute('href'))")
        found = list(dict.fromkeys(urlsplit(each).path.lstrip("./") for each in addresses))
        if found and found == before:
            return found
        before = found
        await page.wait_for_timeout(500)


@pytest.mark.browser
@pytest.mark.long
async def test_search_answers_the_questions_of_a_newcomer(address: str) -> None:
    """For each question, the search of the built site in a browser finds the expected page."""
    assert len(QUESTIONS) >= 13
    wrong = []
    async with chromium() as browser:
        page = await browser.new_page()
        for question, expected in QUESTIONS.items():
            found = await search(page, f"{address}/index.html", question)
            if expected not in found[:FIRST]:
                wrong.append(f"{question}: {found[:FIRST]}")
    assert wrong == []


@pytest.mark.browser
async def test_charts_are_drawn_without_a_network(address: str) -> None:
    """The page loads from this machine only, and the chart of a playbook becomes a picture."""
    async with chromium() as browser:
        page = await browser.new_page()
        refused: list[str] = []

        async def only_here(route: Any) -> None:
            if route.request.url.startswith((address, "data:", "blob:")):
                await route.continue_()
            else:
                refused.append(route.request.url)
                await route.abort()

        await page.route("**/*", only_here)
        await page.goto(f"{address}/playbooks/redis-down.html")
        # the theme draws into a closed shadow root, so the test can only measure the box
        box = page.locator("div.mermaid").first
        await box.wait_for()
        assert (await box.bounding_box())["height"] > 100
        assert refused == []


def test_versions_of_the_site_are_listed(site: Path, tmp_path: Path) -> None:
    """The newest version is ``latest``, the first page leads to it, and the selector has the list of versions."""
    whole = site.parent
    listed = json.loads((whole / "versions.json").read_text())
    assert listed == [{"version": current_version(), "title": current_version(), "aliases": [LATEST]}]
    assert (whole / LATEST / "index.html").read_bytes() == (site / "index.html").read_bytes()
    assert f"url={LATEST}/index.html" in (whole / "index.html").read_text()

    for name in ("0.9", "0.10", "notes"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "index.html").write_text(name)
    _write_versions(tmp_path)
    assert [item["version"] for item in json.loads((tmp_path / "versions.json").read_text())] == ["0.10", "0.9"]
    assert (tmp_path / LATEST / "index.html").read_text() == "0.10"


@pytest.mark.browser
async def test_the_reader_can_choose_a_version(site: Path) -> None:
    """The selector of the theme shows the versions of versions.json."""
    with _served(site.parent) as address:
        async with chromium() as browser:
            page = await browser.new_page()
            await page.goto(f"{address}/{LATEST}/index.html")
            selector = page.locator(".md-version")
            await selector.wait_for()
            assert current_version() in await selector.inner_text()


def test_every_how_to_can_be_found_by_a_question() -> None:
    """Every guide has a question in ``QUESTIONS``."""
    guides = {f"how-to/{path.stem}.html" for path in (ROOT / "docs/how-to").glob("*.md")}
    assert guides - set(QUESTIONS.values()) == set()


def test_the_configuration_needs_no_network() -> None:
    """The configuration disables fonts of other sites."""
    settings = tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))
    assert settings["project"]["theme"]["font"] is False
