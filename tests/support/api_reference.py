"""Generate docs/api.md from the list of operations: ``python -m tests.support.api_reference``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from remediator.core.approval import NEEDS
from remediator.web.api import OPERATIONS
from remediator.web.openapi import ERRORS, Operation

PAGE = Path(__file__).parents[2] / "docs" / "api.md"
STATUSES = "\n".join(f"| {status} | {text} |" for status, text in ERRORS.items())
HEAD = f"""\
# HTTP API

```
curl -H "Authorization: Bearer $TOKEN" http://127.0.0.1:8095/api/v1/runs?open=true
```

The code generates this page. A running service returns the same description as OpenAPI 3.1 from `/api/v1/openapi.json`.

Send an operator token as `Authorization: Bearer rmo_…`. `remediator approval token` creates one; see
[approvals](approvals.md). On loopback, reading needs no token. A browser session works too, but only for JSON requests
from the pages of the console. Every error is one line: `{{"error": "a sentence"}}`. A field of the body that the
operation does not have is refused.

| Status | Meaning |
|---|---|
{STATUSES}

Alertmanager sends notifications to `/api/v1/alerts`, with its own token; see [operations](operations.md).
"""


def page() -> str:
    """Return the text of docs/api.md."""
    parts = [HEAD]
    for operation, _ in OPERATIONS:
        parts.append("\n".join(_section(operation)))
    return "\n".join(parts) + "\n"


def _section(operation: Operation) -> Iterator[str]:
    yield f"## `{operation.method} {operation.path}`\n"
    yield f"{operation.summary} Role: {NEEDS[operation.permission].value}."
    rows = [(item.name, item.place, item.text) for item in operation.parameters]
    rows += [(name, "body", text) for name, text in operation.body.items()]
    if rows:
        yield "\n| Name | In | Description |\n|---|---|---|"
        yield from (f"| `{name}` | {place} | {text} |" for name, place, text in rows)
    yield ""


if __name__ == "__main__":
    PAGE.write_text(page())
