"""Generate the reference of all rules and errors, ``docs/lint.md``."""

from __future__ import annotations

from collections.abc import Iterator

from remediator.authoring.lint.errors import ERRORS
from remediator.authoring.lint.runner import RULES

_HEAD = """# Lint rules

```
remediator lint playbooks/
```

`remediator lint` reports errors, warnings and informational findings. An error keeps a file from being used. A warning
or an informational finding (*info*) names a risk.

The command `python -m tests.support.lint_reference` generates this page, and a test compares the two.

| Exit status | Meaning |
|---|---|
| 0 | Nothing found, or only findings below `--fail-on` (default `warning`). |
| 1 | At least one finding with the severity of `--fail-on` or higher. |
| 2 | Wrong usage, or a file to compare with cannot be used. |
| 3 | The command could not run. |

## Suppress a warning

Add a comment with a date and a reason to the playbook:

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
    """Return the text of the page."""
    return "\n".join((_HEAD, *_sections()))


def _sections() -> Iterator[str]:
    yield "## Warnings and informational findings\n"
    for rule in RULES:
        yield f"### {rule.id}\n\n*{rule.severity.value}* · {rule.summary()}\n\n{rule.why}\n"
        yield f"**Fix:** {rule.fix}.\n"
        yield f"**Suppress:** `# remediator: off {rule.id} until DATE because REASON`\n"
    yield "## Errors\n"
    for name, error in ERRORS.items():
        yield f"### {name}\n\n{error.summary}\n\n**Fix:** {error.fix}\n"


if __name__ == "__main__":
    print(reference(), end="")
