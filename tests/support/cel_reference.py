"""The reference of conditions, ``docs/reference/conditions.md``. A test runs every example."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

from remediator.core.cost import FIELDS
from remediator.playbooks import cel
from remediator.playbooks.parsing.semantics import EVIDENCE_FIELDS, STEP_FIELDS, TARGET_FIELDS

NAMES: Mapping[str, tuple[str, tuple[str, ...], str, str]] = {
    "evidence": (
        "The results of the diagnosis. `evidence.<id>` has the ID of an entry of `diagnose`, or of an earlier step "
        "that only reads. `ok` is missing if the evidence is unknown; `facts` has the facts of the check or action.",
        EVIDENCE_FIELDS,
        "conclude, steps",
        'evidence.ping.facts.state == "down"',
    ),
    "steps": (
        "What an earlier step did. `status` is ok, failed or unknown; `output` has the facts of the action.",
        STEP_FIELDS,
        "steps",
        'steps.restart.status == "failed"',
    ),
    "params": (
        "The values of the parameters of the playbook. `params.<name>` has the declared type.",
        (),
        "conclude, steps",
        'params.environment == "production"',
    ),
    "target": (
        "The service on which the run acts.",
        TARGET_FIELDS,
        "conclude, steps",
        'target.platform == "docker"',
    ),
    "cost": (
        "What this step would interrupt or lose, measured when the step is reached. An unknown cost is missing.",
        FIELDS,
        "steps",
        "cost.clients < 500",
    ),
}
"""Each root: its meaning, its fields, the sections where it can be used, and an example."""
SAMPLE: Mapping[str, Any] = {
    "evidence": {
        "ping": {
            "ok": False,
            "status": "fail",
            "facts": {"state": "down", "clients": 3, "names": ["a", "b"], "since": "2026-01-05T12:00:00Z"},
        }
    },
    "steps": {"restart": {"status": "failed", "output": {"count": 2}}},
    "params": {"environment": "production"},
    "target": {"name": "redis", "platform": "docker"},
    "cost": {"clients": 2},
}
"""The variables with which every example on the page is true."""
FUNCTIONS: Mapping[str, Mapping[str, tuple[str, str]]] = {
    "Logic": {
        "`&&`, `||`, `!`": ("and, or, not", '!evidence.ping.ok && (target.name == "redis" || false)'),
        "`a ? b : c`": ("b if a holds, otherwise c", 'params.environment == "production" ? cost.clients < 5 : true'),
        "`has(x.y)`": ("whether a field exists; a fact that is null does not", "has(evidence.ping.facts.state)"),
    },
    "Comparison": {
        "`==`, `!=`": ("equal, not equal", 'evidence.ping.status != "ok"'),
        "`<`, `<=`, `>`, `>=`": ("order of numbers, text, times and durations", "evidence.ping.facts.clients >= 3"),
        "`in`": ("contained in a list, or a key of a mapping", 'evidence.ping.facts.state in ["down", "silent"]'),
    },
    "Numbers": {
        "`+`, `-`, `*`": ("sum, difference, product; `+` also joins text and lists", "cost.clients * 2 + 1 == 5"),
        "`/`, `%`": ("quotient and remainder; whole numbers give a whole number", "7 / 2 == 3 && 7 % 2 == 1"),
        "`int(x)`": ("whole number from text or another number", 'int("3") == evidence.ping.facts.clients'),
        "`uint(x)`": ("whole number from 0", "uint(3) == 3u"),
        "`double(x)`": ("number with decimals", 'double("1.5") > 1.0'),
    },
    "Text": {
        "`size(x)`": ("number of characters, entries or keys", "size(evidence.ping.facts.names) == 2"),
        "`x.startsWith(y)`": ("beginning", 'params.environment.startsWith("prod")'),
        "`x.endsWith(y)`": ("end", 'params.environment.endsWith("tion")'),
        "`x.contains(y)`": ("part", 'params.environment.contains("duct")'),
        "`x.matches(y)`": ("an RE2 pattern matches a part of the text", 'params.environment.matches("^prod")'),
        "`string(x)`": ("text from another type", 'string(evidence.ping.facts.clients) == "3"'),
        "`bool(x)`": ("true or false from text", 'bool("true")'),
        "`bytes(x)`": ("bytes of a text", 'bytes("a") == b"a"'),
    },
    "Lists and mappings": {
        "`x[y]`": ("entry at a position, or value of a key", 'evidence.ping.facts.names[0] == "a"'),
        "`x.all(e, test)`": ("the test holds for all entries", 'evidence.ping.facts.names.all(n, n != "")'),
        "`x.exists(e, test)`": ("it holds for at least one", 'evidence.ping.facts.names.exists(n, n == "b")'),
        "`x.exists_one(e, test)`": ("it holds for exactly one", 'evidence.ping.facts.names.exists_one(n, n == "b")'),
        "`x.filter(e, test)`": (
            "the entries for which it holds",
            'size(evidence.ping.facts.names.filter(n, n > "a")) == 1',
        ),
    },
    "Times and durations": {
        '`duration("90s")`': ("a duration, with h, m, s and ms", 'duration("90s") > duration("1m")'),
        "`timestamp(x)`": (
            "a time from text in RFC 3339",
            'timestamp(evidence.ping.facts.since) < timestamp("2026-01-06T00:00:00Z")',
        ),
        "`x.getHours(zone)`": (
            "hour; also in a time zone",
            'timestamp(evidence.ping.facts.since).getHours("Europe/Berlin") == 13',
        ),
        "`x.getMinutes()`, `x.getSeconds()`, `x.getMilliseconds()`": (
            "the rest of the time, or the whole of a duration",
            'duration("90s").getSeconds() == 90',
        ),
        "`x.getDayOfWeek()`": ("0 is Sunday", "timestamp(evidence.ping.facts.since).getDayOfWeek() == 1"),
        "`x.getDate()`": ("day of the month, from 1", "timestamp(evidence.ping.facts.since).getDate() == 5"),
        "`x.getDayOfMonth()`, `x.getDayOfYear()`": (
            "from 0",
            "timestamp(evidence.ping.facts.since).getDayOfYear() == 4",
        ),
        "`x.getMonth()`": ("from 0", "timestamp(evidence.ping.facts.since).getMonth() == 0"),
        "`x.getFullYear()`": ("year", "timestamp(evidence.ping.facts.since).getFullYear() == 2026"),
    },
    "Types": {
        "`type(x)`": ("the type of a value", "type(evidence.ping.facts.clients) == int"),
        "`dyn(x)`": ("the value without a type, so that types are compared later", "dyn(1) == 1"),
    },
}
"""Every operator and function, by subject: its meaning, and an example."""
_HEAD = """# Conditions

{note}

Conditions are written in [CEL](https://cel.dev), the Common Expression Language. `when` of a step decides whether the
step runs; `when` of a conclusion decides whether a cause is established. The result is true, false or *unknown*.

| result | step | conclusion |
|---|---|---|
| true | runs, within the guards and the mode | the cause is established |
| false | is skipped | the cause is not established |
| unknown | a person is asked, if the step changes something; otherwise it is skipped | the cause is not established |

A condition is unknown if a value is missing, or if its types cannot be compared. `false && unknown` is false, and
`true || unknown` is true. A condition has at most {length} characters. It cannot read files, call servers or run
forever.

## Names
"""


def conditions(note: str) -> str:
    """Return the text of the page."""
    lines = [_HEAD.format(note=note, length=f"{cel.MAX_LENGTH:,}")]
    for root in cel.ROOTS:
        text, fields, where, example = NAMES[root]
        text += f" Fields: {', '.join(f'`{each}`' for each in fields)}." if fields else ""
        lines += [f"### {root}", "", textwrap.fill(text, 118, break_long_words=False, break_on_hyphens=False), ""]
        lines += [f"Used in: {where}. Example: `{example}`", ""]
    lines += [
        "## Operators and functions",
        "",
        "There are no others. `map` is refused, and so is `+` inside of `all`, `exists`, `exists_one` and `filter`:",
        "both could use much memory.",
        "",
    ]
    for title, rows in FUNCTIONS.items():
        lines += [f"### {title}", "", "| form | meaning | example that holds |", "|---|---|---|"]
        escaped = {
            form.replace("|", "\\|"): (text, example.replace("|", "\\|")) for form, (text, example) in rows.items()
        }
        lines += [f"| {form} | {text} | `{example}` |" for form, (text, example) in escaped.items()]
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"
