"""docs/api.md, from the list of operations: ``python -m tests.support.api_reference`` writes it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from remediator.core.approval import NEEDS
from remediator.web.api import OPERATIONS
from remediator.web.openapi import Operation

PAGE = Path(__file__).parents[2] / "docs" / "api.md"
HEAD = """\
# The API

Made from the code, as is `/api/v1/openapi.json` (OpenAPI 3.1), which a running service gives.

Send an operator token: `Authorization: Bearer rmo_…` (`remediator token` makes one; see [approvals](approvals.md)). On
loopback, looking needs none. A browser's session counts too, for JSON from our own pages only. Every error is one line,
`{"error": "a sentence"}`:

| status | means |
|---|---|
| 400 | a mistake in what was sent; nothing was changed |
| 401 | nobody whom we know |
| 403 | not allowed; the sentence says which role is needed, or why this word does not count |
| 404 | there is no such thing |
| 503 | the store does not answer; try again |

Alertmanager posts to `/api/v1/alerts`, with its own token ([operations](operations.md)).
"""


def page() -> str:
    """All of it."""
    parts = [HEAD]
    for operation, _ in OPERATIONS:
        parts.append("\n".join(_section(operation)))
    return "\n".join(parts) + "\n"


def _section(operation: Operation) -> Iterator[str]:
    yield f"## `{operation.method} {operation.path}`\n"
    yield f"{operation.summary} Role: {NEEDS[operation.power].value}."
    rows = [(item.name, item.place, item.text) for item in operation.parameters]
    rows += [(name, "body", text) for name, text in operation.body.items()]
    if rows:
        yield "\n| name | in | meaning |\n|---|---|---|"
        yield from (f"| `{name}` | {place} | {text} |" for name, place, text in rows)
    yield ""


if __name__ == "__main__":
    PAGE.write_text(page())
