"""The recorded terminal is valid and fits its tutorial, and its picture shows it. If a test fails: make docs-media"""

from __future__ import annotations

import json
import re

from tests.support.servers.remediator import ROOT
from tests.support.terminal import CAST, NAME, PICTURE, picture, prompt, recorded_blocks
from tests.support.tutorials import blocks, text_of

RECORDING = CAST.read_text(encoding="utf-8")
EVENTS = [json.loads(line) for line in RECORDING.splitlines()[1:]]
OUTPUT = "".join(data for _, kind, data in EVENTS if kind == "o")


def test_the_recording_is_an_asciicast() -> None:
    """The file is asciicast v2: a header, then output and chapter events in the order of their times."""
    header = json.loads(RECORDING.splitlines()[0])
    assert header["version"] == 2 and header["width"] > 0 and header["height"] > 0
    assert all(kind in ("o", "m") and isinstance(data, str) for _, kind, data in EVENTS)
    times = [at for at, _, _ in EVENTS]
    assert times == sorted(times) and times[0] == 0


def test_the_recording_has_the_commands_and_results_of_the_tutorial() -> None:
    """The recording has every command of its chapters in order, with the results that the page promises."""
    rest = OUTPUT
    page = recorded_blocks(blocks(text_of(NAME)))
    assert len(page) >= 3
    for block in page.values():
        _, found, rest = rest.partition(prompt(block))
        assert found, f"not recorded: {block.text}"
        for line in block.expected:
            assert line in rest.partition("\r\n$ ")[0], line


def test_the_recording_has_nothing_of_the_machine_that_made_it() -> None:
    """Folders and ports are those of the page."""
    assert "/tmp/" not in OUTPUT
    ports = set(re.findall(r"127\.0\.0\.1:(\d+)", OUTPUT))
    assert ports <= set(re.findall(r"127\.0\.0\.1:(\d+)", text_of(NAME)))


def test_the_picture_shows_the_recording() -> None:
    """The picture is made from the recording, and loads nothing from another site."""
    shown = PICTURE.read_text(encoding="utf-8")
    assert shown == picture(RECORDING)
    assert not re.search(r"url\((?!#)|href=|src=|@import|<image", shown)
    assert "succeeded" in shown


def test_pages_lead_to_the_picture_and_the_recording() -> None:
    """The README shows the picture. The tutorial shows the picture and links the recording."""
    assert f"docs/images/{PICTURE.name}" in (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"images/{PICTURE.name}" in text_of(NAME) and f"images/{CAST.name}" in text_of(NAME)
