"""The head of docs/guards.md, from the code: ``python -m tests.support.guard_reference`` writes it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from remediator.extensions.registry import Registry

PAGE = Path(__file__).parents[2] / "docs" / "guards.md"
BEGIN, END = "<!-- from the code -->", "<!-- end of what is from the code -->"


def head() -> str:
    """Return the guards in the order of evaluation, with reasons, settings and defaults."""
    lines = ["| Guard | Reasons | Settings and defaults |", "|---|---|---|"]
    for guard in Registry().guards:
        reasons = ", ".join(f"`{reason}`" for reason in sorted(guard.reasons))
        settings = guard.Settings()
        values: dict[str, Any] = settings.model_dump(mode="json", by_alias=True)
        shown = "<br>".join(f"`{name}: {json.dumps(value)}`" for name, value in values.items()) or "none"
        lines.append(f"| [{guard.name}](#{guard.name}) | {reasons} | {shown} |")
    return "\n".join(lines)


def with_head(page: str) -> str:
    """Return the page with its head from the code."""
    before, rest = page.split(BEGIN)
    after = rest.split(END)[1]
    return f"{before}{BEGIN}\n{head()}\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(with_head(PAGE.read_text()))
