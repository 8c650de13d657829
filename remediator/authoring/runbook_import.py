"""Make a playbook skeleton from a Markdown runbook: its headings and its blocks of shell commands.

A runbook does not name its alert, its service, the proof of success, or the possible damage of its commands. These gaps
are left for the author, as names that do not exist, so that lint refuses the skeleton until they are filled.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from remediator.authoring._templates import TEMPLATES
from remediator.errors import InputError
from remediator.playbooks.diagnostics import did_you_mean

GAP = "GAP"
"""Placeholder for a missing name. No action, check, cause or service has this name."""
_SHELL = frozenset({"", "sh", "bash", "shell", "console", "zsh"})
_HEADING = re.compile(r"^ {0,3}(#{1,6})\s+(.*?)\s*#*\s*$")
_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})\s*(\S*)")
_NAME = re.compile(r"[^a-z0-9]+")
_PROOF = re.compile(
    r"verif|confirm|afterwards|recover(ed|y)|\b(is|are|has|have) (fixed|healthy|recovered)", re.IGNORECASE
)
"""Headings of sections that show that a remedy worked."""
_LONGEST = 40
_SUGGESTIONS: Sequence[tuple[str, str, str]] = (
    (r"(systemctl|supervisorctl) status\b|docker (ps|inspect)\b", "action", "service.status"),
    (r"kubectl .*\b(get|describe)\b", "action", "service.status"),
    (r"journalctl\b|(docker (compose )?|kubectl .*\b)logs\b|tail\b.*\.log\b", "action", "service.logs"),
    (r"redis-cli .*\bping\b", "check", "redis.ping"),
    (r"\bdf\b", "check", "disk.usage"),
    (r"\b(curl|wget)\b(?!.*(-X|--request|-d\b|--data|--post))", "check", "http.ok"),
    (r"\bnc\b.*-z", "check", "tcp.connect"),
    (r"systemctl (re)?start\b|docker (compose )?restart\b", "step", "service.restart"),
    (r"supervisorctl restart\b|kubectl .*rollout restart\b", "step", "service.restart"),
    (r"kubectl .*rollout undo\b|helm rollback\b", "step", "service.rollback"),
    (r"kubectl .*\bscale\b|docker compose .*--scale\b", "step", "service.scale"),
    (r"redis-cli .*\bbgsave\b", "step", "redis.bgsave"),
    (r"redis-cli .*\bbgrewriteaof\b", "step", "redis.bgrewriteaof"),
)
"""Known commands: a pattern, where the command belongs, and the action or check that does the same."""


@dataclass(frozen=True, slots=True)
class RunbookPart:
    """A heading with the commands of its blocks."""

    level: int
    title: str
    line: int
    commands: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SkeletonEntry:
    """One command of the runbook in the skeleton."""

    id: str
    heading: str
    line: int
    command: str
    kind: str
    """``action`` or ``check`` under diagnose, ``step``, or ``proof``: a check under verify."""
    name: str
    """The action or check, or :data:`GAP`."""


@dataclass(frozen=True, slots=True)
class Skeleton:
    """The data for the template of the skeleton."""

    name: str
    title: str
    source: str
    alert: str
    target: str
    diagnoses: tuple[SkeletonEntry, ...] = ()
    steps: tuple[SkeletonEntry, ...] = ()
    proofs: tuple[SkeletonEntry, ...] = ()
    """The proof that the remedy worked."""


def read_runbook(text: str) -> list[RunbookPart]:
    """Return the headings of a Markdown text, each with the commands of the shell blocks below it."""
    parts = [RunbookPart(0, "", 1)]
    fence, shell, block = "", False, list[str]()
    for number, line in enumerate(text.splitlines(), 1):
        if fence:
            if line.strip().startswith(fence) and not line.strip().strip(fence[0]):
                if shell:
                    last = parts[-1]
                    parts[-1] = RunbookPart(last.level, last.title, last.line, (*last.commands, *_commands(block)))
                fence, block = "", []
            else:
                block.append(line)
        elif (opening := _FENCE.match(line)) is not None:
            fence, shell = opening[1], opening[2].lower() in _SHELL
        elif (heading := _HEADING.match(line)) is not None:
            parts.append(RunbookPart(len(heading[1]), heading[2], number))
    return parts


def _commands(lines: Sequence[str]) -> Iterator[str]:
    """Yield the commands of a block: without prompts and comments, with continued lines joined."""
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        plain = re.sub(r"^\s*[$#>]\s+", "", line) if re.match(r"^\s*[$>]\s", line) else line.strip()
        if plain and not plain.startswith("#"):
            yield " ".join(plain.split())


def make_skeleton(text: str, source: str, section: str = "", alert: str = "", target: str = "") -> Skeleton:
    """Return the skeleton of a section of a runbook, or of the whole runbook.

    Raises:
        InputError: the section does not exist, or it has no shell commands.
    """
    parts = read_runbook(text)
    titles = [part.title for part in parts if part.title]
    chosen = parts
    if section:
        start = next((at for at, part in enumerate(parts) if part.title.casefold() == section.casefold()), None)
        if start is None:
            raise InputError(f"{source} has no heading {section!r}; {did_you_mean(section, titles) or 'it has none'}")
        level = parts[start].level
        end = next((at for at in range(start + 1, len(parts)) if parts[at].level <= level), len(parts))
        chosen = parts[start:end]
    entries = list(_entries(chosen))
    if not entries:
        raise InputError(f"{source}: no shell commands in {section or 'it'!r}; only blocks such as ```sh are read")
    title = section or next((part.title for part in parts if part.title), source)
    name = _NAME.sub("-", title.lower()).strip("-")[:_LONGEST].rstrip("-") or "runbook"
    return Skeleton(
        name,
        title,
        source,
        alert,
        target or GAP,
        tuple(entry for entry in entries if entry.kind in ("action", "check")),
        tuple(entry for entry in entries if entry.kind == "step"),
        tuple(entry for entry in entries if entry.kind == "proof"),
    )


def _entries(parts: Sequence[RunbookPart]) -> Iterator[SkeletonEntry]:
    taken: set[str] = set()
    for part in parts:
        for command in part.commands:
            kind, name = next(
                ((kind, name) for pattern, kind, name in _SUGGESTIONS if re.search(pattern, command)), ("step", GAP)
            )
            if kind == "check" and _PROOF.search(part.title):
                kind = "proof"
            yield SkeletonEntry(_free_id(name, command, taken), part.title, part.line, command, kind, name)


def _free_id(name: str, command: str, taken: set[str]) -> str:
    """Return an ID from the action or check, or from the program."""
    try:
        program = shlex.split(command)[0].rpartition("/")[2]
    except ValueError:  # the line has an unclosed quote
        program = command.split()[0]
    stem = name.rpartition(".")[2] if name != GAP else program
    plain = _NAME.sub("-", stem.lower()).strip("-") or "command"
    found = next(each for each in (plain, *(f"{plain}-{number}" for number in range(2, 1000))) if each not in taken)
    taken.add(found)
    return found


def skeleton_text(skeleton: Skeleton) -> str:
    """Return the text of the playbook skeleton."""
    return TEMPLATES.get_template("runbook_skeleton.yaml").render(skeleton=skeleton, gap=GAP)
