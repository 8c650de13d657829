"""The diagram in docs/reliability.md shows exactly the allowed transitions."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from remediator.core.run import TERMINAL, TRANSITIONS

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
_BLOCK = re.compile(r"```mermaid\n(stateDiagram.*?)```\n", re.S)


def diagram() -> str:
    """Return the diagram in Mermaid syntax."""
    lines = ["stateDiagram-v2", "  [*] --> matched"]
    for before, following in TRANSITIONS.items():
        lines += [f"  {before.value} --> {after.value}" for after in sorted(following)]
    lines += [f"  {status.value} --> [*]" for status in sorted(TERMINAL)]
    return "\n".join(lines) + "\n"


def test_the_diagram_is_current() -> None:
    """The diagram matches the code. To regenerate it: python -m tests.core.test_run."""
    found = _BLOCK.search(PAGE.read_text(encoding="utf-8"))
    assert found is not None and found[1] == diagram()


if __name__ == "__main__":
    content = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(_BLOCK.sub(f"```mermaid\n{diagram()}```\n", content), encoding="utf-8")
    sys.stdout.write(f"{PAGE}\n")
