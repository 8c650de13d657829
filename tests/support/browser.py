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
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
]
SHOTS = Path(os.environ.get("REMEDIATOR_SCREENSHOTS", "test-artefacts/screenshots"))
"""Directory of the screenshots."""
_TRIES = 10


@asynccontextmanager
async def chromium() -> AsyncIterator[Any]:
    """Connect to the browser; a context of it shares nothing with those of other tests. Skip the test without
    Playwright or Chromium."""
    playwright = pytest.importorskip("playwright.async_api", reason="needs playwright")
    address = await asyncio.to_thread(_running)
    async with playwright.async_playwright() as driver:
        browser = await driver.chromium.connect_over_cdp(address)
        try:
            yield browser
        finally:
            await browser.close()  # its contexts; the browser itself goes on


@cache
def _running() -> str:
    """Start the one browser of this process, which ends with it: a start costs seconds. Return where it is driven."""
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

    On a busy machine Chromium sometimes fails, so this tries again.
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
