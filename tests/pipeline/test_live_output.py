"""The output of a running step: visible while the step runs, without secrets, and deleted at its end."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from remediator.clients.host import process
from remediator.pipeline.live_output import MAX_KEPT, LiveOutputs
from tests.support.servers import DEADLINE

pytestmark = pytest.mark.process


async def _until(outputs: LiveOutputs, wanted: list[str]) -> None:
    async with asyncio.timeout(DEADLINE):
        while outputs.lines("attempt-1") != wanted:
            await asyncio.sleep(0.01)


async def test_the_output_of_a_running_program_is_followed(tmp_path: Path) -> None:
    """Complete lines are visible while the program runs, and deleted afterwards. The output of another task is not
    collected."""
    outputs = LiveOutputs()
    script = "echo one; echo -n half; read -r line < $0; echo ' done'"

    async def call(fifo: str) -> process.Ended:
        with outputs.follow("attempt-1"):
            return await process.run(["/bin/sh", "-c", script, fifo], seconds=60)

    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    task = asyncio.create_task(call(str(fifo)))
    await _until(outputs, ["one"])
    await process.run(["/bin/echo", "of another task"], seconds=60)
    assert outputs.lines("attempt-1") == ["one"]
    await asyncio.to_thread(fifo.write_text, "go\n")
    ended = await task
    assert ended.output == "one\nhalf done\n"
    assert outputs.lines("attempt-1") is None


async def test_a_long_output_keeps_its_end() -> None:
    """A long output is cut at its start, at a line break."""
    outputs = LiveOutputs()
    with outputs.follow("attempt-1"):
        await process.run(["/bin/sh", "-c", "seq 1 20000"], seconds=60)
        lines = outputs.lines("attempt-1")
    assert lines is not None and lines[-1] == "20000" and len("\n".join(lines)) < MAX_KEPT
    assert all(line == str(20000 - number) for number, line in enumerate(reversed(lines)))
