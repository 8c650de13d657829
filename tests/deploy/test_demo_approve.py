"""``make demo-approve`` with a person at a real browser: the request in the chat, the approval, and the remedy."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from asyncio.subprocess import PIPE, STDOUT, Process

import pytest

from demo.stack import orphaned_processes
from demo.stack.settings import ROOT, Settings
from tests.deploy.test_stack import environment
from tests.support.browser import chromium, picture

PATIENCE = 200_000
"""Timeout in milliseconds for each step of the real stack."""


async def _begin(settings: Settings) -> Process:
    argv = [sys.executable, "-m", "demo.approval"]
    variables = {**os.environ, **environment(settings), "BY_HAND": "1", "PYTHONUNBUFFERED": "1", "COLUMNS": "400"}
    return await asyncio.create_subprocess_exec(*argv, cwd=ROOT, env=variables, stdin=PIPE, stdout=PIPE, stderr=STDOUT)


async def _asked(process: Process, told: list[str]) -> tuple[str, str]:
    """Return the token and the link that the demonstration prints for a person."""
    assert process.stdout is not None
    while line := (await process.stdout.readline()).decode():
        told.append(line)
        if "needs a small file system" in line:
            pytest.skip(line.strip())
        if found := re.search(r"open (http\S+)", line):
            token = re.search(r"is (rmo_\S+)", "".join(told))
            assert token is not None
            return token[1], found[1]
    raise AssertionError("nobody was asked:\n" + "".join(told))


@pytest.mark.long
@pytest.mark.browser
@pytest.mark.promise(6)
async def test_a_person_approves_by_a_chat_link_and_the_run_succeeds(local_stack: Settings) -> None:
    """A person opens the link, approves, sees the run succeed on a real full disk, and is recorded by name."""
    told: list[str] = []
    async with chromium() as browser:
        process = await _begin(local_stack)
        try:
            token, link = await _asked(process, told)
            page = await browser.new_page(viewport={"width": 390, "height": 844})
            page.set_default_timeout(PATIENCE)
            await page.goto(link)
            await picture(page, "demo-asked")
            await page.fill("#token", token)
            assert not await page.query_selector("#typed"), "the due step loses no data, so no name has to be typed"
            await page.click("button[value=approve]")
            await page.wait_for_selector("text=Approved at")
            await page.click("text=Show the run")
            await page.wait_for_selector("h1 .status.succeeded")  # without a reload
            await picture(page, "demo-healed")
            await page.goto(link)
            # the page's script shows the time in the browser's language and time zone
            assert re.search(r"Approved at .*\d{4}.*\d\d:\d\d.* by ann", await page.inner_text("main"))
            await picture(page, "demo-link-again")
            told.append((await process.communicate(b"\n"))[0].decode())
            assert process.returncode == 0
        finally:
            if process.returncode is None:
                process.terminate()
                told.append((await process.communicate())[0].decode())
            print("".join(told))
    text = "".join(told)
    assert "robots opened the link and posted to it" in text and "healed, checked independently" in text
    assert re.search(r"the same link, opened again: Approved at [0-9: -]+Z by ann", text)
    assert re.search(r"approval\.decided.*ann", text)
    assert orphaned_processes.find(local_stack) == []
