"""Every ``remediator …`` command in documents, messages, pages and help texts exists, with its options."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from remediator.cli.main import COMMANDS, GROUPS, cli
from tests.support.file_reference import all_commands

ROOT = Path(__file__).parents[2]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / ".github").rglob("*.md")]
SOURCES = [*(ROOT / "remediator").rglob("*.py"), *(ROOT / "remediator").rglob("*.html"), *(ROOT / "demo").rglob("*.py")]

_BLOCK = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`remediator ([^`\n]+)`")
_NAMED = re.compile(r"(?:['`]|: |<code>)remediator ([a-z][^'`<]*)")
_BEFORE_A_COMMAND = {"|", "||", "&&", ";", "(", "until", "while", "if", "then", "do", "!"}


@pytest.fixture(autouse=True)
def files_need_not_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    """Accept any file name, because only the command line is checked."""
    for kind in (click.Path, click.File):
        monkeypatch.setattr(kind, "convert", lambda self, value, param, ctx: value)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_in_documents_exist(page: Path) -> None:
    """Commands in code blocks are complete. Those in running text may omit required options and values."""
    text = page.read_text(encoding="utf-8")
    wrong = []
    for kind, block in _BLOCK.findall(text):
        if kind in ("", "sh", "bash", "console"):
            wrong += [problem for line in _lines(block) for args in _calls(line) if (problem := _problem(args))]
    for found in _INLINE.findall(_BLOCK.sub("", text)):
        wrong += [problem for args in _calls(f"remediator {found}") if (problem := _problem(args, partial=True))]
    assert wrong == []


def test_commands_in_messages_exist() -> None:
    """Error messages, pages and the demo's output name only commands of this version."""
    wrong, count = [], 0
    for path in SOURCES:
        for text in _strings(path):
            for found in _NAMED.findall(text):
                count += 1
                problem = _problem(shlex.split(found.split(" (")[0].rstrip(".,;)")), partial=True)
                wrong += [f"{path.relative_to(ROOT)}: {problem}"] if problem else []
    assert wrong == []
    assert count > 20


EVERY = dict(all_commands(cli))


@pytest.mark.parametrize("path", EVERY, ids=" ".join)
def test_each_help_has_an_example_that_works(path: tuple[str, ...]) -> None:
    """The first line is an imperative sentence, and each example is a valid command line of this command."""
    help_ = EVERY[path].help or ""
    first, _, rest = help_.partition("\n\n")
    assert re.fullmatch(r"[A-Z][a-z]+ [^.]+\.( [A-Z][^.]+\.)?", first), first
    lines = _lines(rest.partition("Example")[2])
    calls = [args for line in lines for args in _calls(line)]
    assert calls, "no example"
    assert [problem for args in calls if (problem := _problem(args))] == []
    assert any(tuple(args[: len(path)]) == path for args in calls)


@pytest.mark.parametrize("path", EVERY, ids=" ".join)
def test_each_option_has_a_help_with_its_default(path: tuple[str, ...]) -> None:
    """Each option has a help with its default, except flags and options that click marks as required."""
    for option in EVERY[path].params:
        if not isinstance(option, click.Option) or option.name == "help":
            continue
        text = option.help or ""
        assert text.endswith(".") and text[0].isupper(), option.opts
        if option.is_flag or option.required:
            continue
        assert "(default: " in text, option.opts
        if option.default not in (None, "", ()) and isinstance(option.default, str | int | Path):
            assert f"(default: {option.default}" in text, option.opts


def test_the_list_of_commands_says_what_their_help_says() -> None:
    """The table of ``--help``, which imports no command, has the texts of the commands."""
    context = click.Context(cli)
    for name, text in (COMMANDS | GROUPS).items():
        command = cli.get_command(context, name)
        assert command is not None and command.help is not None
        assert command.help.partition("\n\n")[0] == text


def _lines(block: str) -> list[str]:
    return block.replace("\\\n", " ").splitlines()


def _calls(line: str) -> Iterator[list[str]]:
    """Yield the arguments of each call of ``remediator`` in a line of shell."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    try:
        words = list(lexer)
    except ValueError:  # an apostrophe in running text
        words = line.split()
    for at, word in enumerate(words):
        before = words[at - 1] if at else ";"
        if word == "remediator" and (before in _BEFORE_A_COMMAND or re.match(r"[A-Z_]+=", before)):
            rest = words[at + 1 :]
            end = next((n for n, each in enumerate(rest) if re.fullmatch(r"[|&;()<>]+|2", each)), len(rest))
            yield rest[:end]


def _problem(args: list[str], *, partial: bool = False) -> str | None:
    """Parse a command line as click does, without running it. Return the error, or nothing if it is valid."""
    group: click.Command = cli
    context: click.Context | None = None
    name, rest = "remediator", list(args)
    try:
        while True:
            context = group.make_context(name, list(rest), parent=context)
            words: list[str] = [*context._protected_args, *context.args]
            if not isinstance(group, click.Group) or not words:
                return None
            found, command, rest = group.resolve_command(context, words)
            assert found is not None and command is not None
            name, group = found, command
    except click.exceptions.Exit:  # --help, --version
        return None
    except (click.MissingParameter, click.BadOptionUsage, click.exceptions.NoArgsIsHelpError) as error:
        return None if partial else f"remediator {' '.join(args)}: {error.format_message()}"
    except click.BadParameter as error:
        placeholder = partial and any(word.isupper() or "{" in word for word in args)
        return None if placeholder else f"remediator {' '.join(args)}: {error.format_message()}"
    except click.UsageError as error:
        return f"remediator {' '.join(args)}: {error.format_message()}"


def _strings(path: Path) -> Iterator[str]:
    """Yield the texts of a file, with a placeholder for each formatted value."""
    if path.suffix == ".html":
        yield re.sub(r"\{\{.*?\}\}", "X", path.read_text(encoding="utf-8"))
        return
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    parts = {part for node in nodes if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in nodes:
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "X" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in parts:
            yield node.value
