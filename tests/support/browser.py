"""A real browser: Debian's Chromium, driven by Playwright, with flags for a closed network."""

from __future__ import annotations

import asyncio
import atexit
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from remediator.web.application import Application
from tests.support.servers import require, until
from tests.support.web_service import WebService

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    # Chromium sometimes never answers about the page that it opens itself (two of nine starts at load 20).
    "--no-startup-window",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
]
SHOTS = Path(os.environ.get("REMEDIATOR_SCREENSHOTS", "test-artefacts/screenshots"))
"""Directory of the screenshots."""
PATIENCE = 100_000
"""Timeout of a page in milliseconds, long for a busy machine. A test ends after 300 seconds in any case."""
_TRIES = 10


class Browser:
    """A browser of Playwright with long timeouts."""

    def __init__(self, driven: Any) -> None:
        self._driven = driven

    async def new_context(self, **options: Any) -> Any:
        """Return a new context, which shares nothing with others."""
        context = await self._driven.new_context(**options)
        context.set_default_timeout(PATIENCE)
        return context

    async def new_page(self, **options: Any) -> Any:
        """Return a page in a new context."""
        return await (await self.new_context(**options)).new_page()


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """Connect to the browser, in contexts that are separate from other tests.

    Skip the test without Playwright or Chromium.
    """
    playwright = pytest.importorskip("playwright.async_api", reason="needs playwright")
    address = await asyncio.to_thread(_running)
    async with playwright.async_playwright() as driver:
        browser = await driver.chromium.connect_over_cdp(address, timeout=PATIENCE)
        try:
            yield Browser(browser)
        finally:
            await browser.close()  # closes only its contexts; the browser continues


@cache
def _running() -> str:
    """Start one browser for this process, because a start takes seconds. Return its URL. It ends with the process."""
    folder = Path(tempfile.mkdtemp())
    argv = [require("chromium"), *FLAGS, "--remote-debugging-port=0", f"--user-data-dir={folder}"]
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)

    def end() -> None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)

    atexit.register(end)
    port = folder / "DevToolsActivePort"
    until(lambda: port.exists() and bool(port.read_text()), "Chromium can be driven")
    return f"http://127.0.0.1:{port.read_text().split()[0]}"


@asynccontextmanager
async def serving(room: WebService) -> AsyncIterator[str]:
    """Serve the application on a free port of loopback and yield its URL."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    server = uvicorn.Server(
        uvicorn.Config(Application(room.service), log_config=None, lifespan="off", proxy_headers=False, ws="none")
    )
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        room.service.closing.set()
        server.should_exit = True
        await task
        listener.close()


async def picture(page: Any, name: str, *, full_page: bool = True) -> None:
    """Save a screenshot of the whole page, or of its visible part.

    On a busy machine Chromium sometimes fails, so this function tries again.
    """
    SHOTS.mkdir(parents=True, exist_ok=True)
    for left in reversed(range(_TRIES)):
        try:
            await page.screenshot(path=str(SHOTS / f"{name}.png"), full_page=full_page)
            return
        except pytest.importorskip("playwright.async_api").Error:
            if not left:
                raise
            await asyncio.sleep(1.0)
