"""Words that the project does not use: ``python -m tests.test_prose [PATH...]`` prints their places.

The list is tests/prose_words.txt. It applies to Markdown, docstrings, comments, messages (string literals of at least
two words) and page templates. Code in Markdown is left out, because it names identifiers.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
WORDS = Path(__file__).with_name("prose_words.txt")
PACKAGES = ("remediator", "app", "demo", "bench")
SHOWN = 40
"""Number of places in the message of a failed test."""

_FENCE = re.compile(r"^(```|~~~).*?^\1", re.DOTALL | re.MULTILINE)
_CODE = re.compile(r"`[^`\n]+`")
_MARKUP = re.compile(r"\{[{%#].*?[}%#]\}|<[^>]*>", re.DOTALL)
_TWO_WORDS = re.compile(r"[A-Za-z]\S*\s+\S*[A-Za-z]")


@dataclass(frozen=True)
class Rule:
    """An expression that is not used, and its replacement."""

    expression: re.Pattern[str]
    replacement: str


@dataclass(frozen=True)
class Place:
    """A word that is not used, its place, and its replacement."""

    file: str
    line: int
    word: str
    replacement: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.word!r}: write {self.replacement!r}"


def rules() -> list[Rule]:
    """Return the list of words.

    Raises:
        ValueError: a line has no replacement, or is not a regular expression.
    """
    found = []
    for number, line in enumerate(WORDS.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        expression, arrow, replacement = line.partition(" => ")
        if not arrow or not replacement.strip():
            raise ValueError(f"{WORDS.name}:{number}: expected 'RE => REPLACEMENT', for example 'anew => again'")
        pattern = expression.strip().replace(" ", r"\s+")
        try:
            found.append(Rule(re.compile(rf"\b(?:{pattern})\b", re.IGNORECASE), replacement.strip()))
        except re.error as error:
            raise ValueError(f"{WORDS.name}:{number}: invalid regular expression: {error}") from None
    return found


@cache
def _any_rule() -> re.Pattern[str]:
    """Return one expression that matches wherever a rule does, which is faster than a search for each rule."""
    return re.compile("|".join(rule.expression.pattern for rule in rules()), re.IGNORECASE)


def files(root: Path = ROOT) -> list[Path]:
    """Return all files that are checked."""
    found = [*root.glob("*.md"), *root.glob("docs/**/*.md"), *root.glob(".github/**/*.md")]
    for package in PACKAGES:
        for suffix in ("py", "md", "html"):
            found += (root / package).rglob(f"*.{suffix}")
    return sorted(found)


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """Yield each text of a file that people read, with its first line number."""
    source = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        yield from _python(source)
    elif path.suffix == ".md":
        yield 1, _blank(_CODE, _blank(_FENCE, source))
    else:
        yield 1, _blank(_MARKUP, source)


def _python(source: str) -> Iterator[tuple[int, str]]:
    tree = ast.parse(source)
    documented = {
        id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
            continue
        if id(node) in documented or _TWO_WORDS.search(node.value):
            yield node.lineno, node.value
    if not _any_rule().search(source):  # then no comment can match, and tokenizing is the slowest part
        return
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def _blank(expression: re.Pattern[str], text: str) -> str:
    """Replace every match by its line breaks, so that line numbers stay."""
    return expression.sub(lambda match: " " + "\n" * match[0].count("\n"), text)


def places(paths: Iterable[Path]) -> list[Place]:
    """Return every place of a word that is not used, in the order of files and lines."""
    found, listed = [], rules()
    for path in paths:
        name = path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else str(path)
        for first, text in texts(path):
            for rule in listed if _any_rule().search(text) else ():
                for match in rule.expression.finditer(text):
                    line = first + text.count("\n", 0, match.start())
                    found.append(Place(name, line, " ".join(match[0].split()), rule.replacement))
    return sorted(found, key=lambda place: (place.file, place.line))


def test_no_text_has_a_listed_word() -> None:
    """No text has a word on the list. The failure prints each place and its replacement."""
    found = places(files())

    shown = "\n".join(map(str, found[:SHOWN]))
    assert not found, f"{len(found)} places; all of them: python -m tests.test_prose\n{shown}"


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("page.md", "# Title\n\nIt is planned anew.\n", 3),
        ("page.md", "A run that cannot\ntell.\n", 1),
        ("code.py", '"""Title.\n\nPlan anew.\n"""\n', 3),
        ("code.py", "x = 1  # planned anew\n", 1),
        ("code.py", 'raise_error(f"{name} was planned anew")\n', 1),
        ("page.html", "<p>\n<b>planned</b> anew</p>\n", 2),
    ],
)
def test_a_word_is_found_on_its_line(tmp_path: Path, name: str, text: str, line: int) -> None:
    """Words are found in Markdown, docstrings, comments, messages and templates."""
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")

    assert [place.line for place in places([path])] == [line]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("page.md", "Set `anew: true`.\n\n```yaml\nanew: true\n```\n"),
        ("code.py", 'anew = values["anew"]\n'),
        ("page.html", '<p class="anew">{{ run.anew }}</p>\n'),
    ],
)
def test_code_is_not_prose(tmp_path: Path, name: str, text: str) -> None:
    """Identifiers, keys and markup are not checked."""
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")

    assert places([path]) == []


def test_no_replacement_is_on_the_list_itself() -> None:
    """No replacement in the list contains a word on the list."""
    expressions = [rule.expression for rule in rules()]

    assert [rule for rule in rules() if any(each.search(rule.replacement) for each in expressions)] == []


if __name__ == "__main__":
    given = [Path(argument).resolve() for argument in sys.argv[1:]]
    result = places(given or files())
    print("\n".join(map(str, result)))
    sys.exit(1 if result else 0)
