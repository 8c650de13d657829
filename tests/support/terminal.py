"""Record a terminal from a real run of a tutorial, as asciicast v2 and as a picture: part of ``make docs-media``."""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from tests.support.servers.remediator import ROOT
from tests.support.tutorials import Block, Line, Tutorial, blocks, text_of

NAME = "http-service"
"""The tutorial that is recorded."""
CHAPTERS = ("## 4.", "## 5.", "## 6.")
"""The recorded chapters. The earlier chapters only prepare them."""
PICTURED = "## 5."
"""The chapter of the picture."""
CAST = ROOT / f"docs/images/{NAME}.cast"
PICTURE = ROOT / f"docs/images/{NAME}.svg"
_WIDTH, _HEIGHT = 110, 30
_SVG = """\
<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font-family: monospace; font-size: {char_height}px; line-height: {line_height}px; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" />
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""
"""The SVG template of rich without its fonts, which a page would load from another site."""


def recorded_blocks(page: Sequence[Block]) -> dict[int, Block]:
    """Return the blocks of commands that are recorded, by their number."""
    return {number: block for number, block in enumerate(page) if block.heading.startswith(CHAPTERS) and not block.file}


def prompt(block: Block) -> str:
    """Return the commands of a block as a terminal shows them."""
    return "".join(f"$ {line}\r\n" for line in block.text.splitlines())


def cast(tutorial: Tutorial, lines: Sequence[Line]) -> str:
    """Return the run as asciicast v2, with the ports and folders of the page and the times of the run."""

    def shown(text: str) -> str:
        for port, free in tutorial.ports.items():
            text = text.replace(free, port)
        return text.replace(str(tutorial.work), "/home/you/shop")

    page = recorded_blocks(blocks(text_of(NAME)))
    begun = tutorial.started[min(page)]
    header = {"version": 2, "width": _WIDTH, "height": _HEIGHT, "idle_time_limit": 2, "title": f"remediator: {NAME}"}
    events: list[list[Any]] = []
    heading = ""
    for number, block in page.items():
        at = round(tutorial.started[number] - begun, 3)
        if block.heading != heading:
            heading = block.heading
            events.append([at, "m", heading.removeprefix("## ")])
        events.append([at, "o", prompt(block)])
        events += [
            [round(line.at - begun, 3), "o", f"{shown(line.text)}\r\n"] for line in lines if line.block == number
        ]
    return "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in (header, *events))


def picture(recording: str) -> str:
    """Return the chapter ``PICTURED`` of a recording as SVG."""
    text = ""
    inside = False
    for _, kind, data in map(json.loads, recording.splitlines()[1:]):
        if kind == "m":
            inside = f"## {data}".startswith(PICTURED)
        elif inside:
            text += data
    console = Console(record=True, width=_WIDTH, file=io.StringIO(), force_terminal=True, legacy_windows=False)
    console.print(Text(text.replace("\r\n", "\n").rstrip("\n")))
    return console.export_svg(title="Break it again, and watch it heal", code_format=_SVG, unique_id="terminal")


def main() -> None:
    """Run the tutorial, and write the recording and the picture.

    Raises:
        SystemExit: a command of the page failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        tutorial = Tutorial(NAME, Path(folder))
        lines = list(tutorial.run())
        if tutorial.status != 0:
            raise SystemExit("\n".join(line.text for line in lines[-20:]))
        CAST.write_text(cast(tutorial, lines), encoding="utf-8")
    PICTURE.write_text(picture(CAST.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
