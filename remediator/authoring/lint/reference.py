"""The reference of all ids, as ``docs/lint.md`` has it."""

from __future__ import annotations

from collections.abc import Iterator

from remediator.authoring.lint.errors import ERRORS
from remediator.authoring.lint.runner import RULES

_HEAD = """# What lint says

`remediator lint` reports errors, which keep a file from being used, and warnings and remarks, which say what is risky.
This page is made by `python -m remediator.authoring.lint.reference`; a test keeps it in step.

Exit status: 0 nothing found, 1 something found that is at least as bad as `--fail-on`, 2 wrong usage, or a file that
is to be compared with cannot be used, 3 could not run.

## Switching a warning off

In the playbook, with a date and a reason:

```yaml
guards:
  off:
    # remediator: off guard-off until 2027-01-01 because the new instance comes in December
    - {guard: min_healthy, reason: there is one instance only}
```

| Position of the comment | Applies to |
|---|---|
| at the end of a line | that line |
| alone above a line | that line |
| before the first line of content | the whole file |

Separate several rules with commas. After the date, the warning is reported again. You cannot suppress errors.
"""


def reference() -> str:
    """The page."""
    return "\n".join((_HEAD, *_warnings(), *_errors()))


def _warnings() -> Iterator[str]:
    yield "## Warnings and informational findings\n"
    for rule in RULES:
        yield f"### {rule.id}\n\n*{rule.severity.value}* · {rule.what}\n\n{rule.why}\n"
        yield f"**Fix:** {rule.mend}.\n"
        yield f"**Suppress:** `# remediator: off {rule.id} until DATE because REASON`\n"


def _errors() -> Iterator[str]:
    yield "## Errors\n"
    for name, error in ERRORS.items():
        yield f"### {name}\n\n{error.what}\n\n**Fix:** {error.mend}\n"


if __name__ == "__main__":
    print(reference(), end="")  # noqa: T201 - its purpose
