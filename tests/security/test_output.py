"""External text cannot control a terminal, mention people, or look like a statement of the service."""

from __future__ import annotations

import ast
import os
import stat
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from remediator.authoring.doctor.base import Level
from remediator.authoring.doctor.secrets import examine_folder
from remediator.cli import _direct_store, _output
from remediator.cli._decisions import terminal_operator
from remediator.core.text import REPLACEMENT, printable_lines
from remediator.reporting.document import escape_markdown
from remediator.reporting.request_text import quote_alert
from remediator.runtime.store_access import make_private
from tests.support.servers.remediator import ROOT
from tests.support.web_service import WebService

pytestmark = pytest.mark.promise(8)
HOSTILE = ["\x1b[2J", "\x1b]0;owned\x07", "\x9b31m", "\r", "\u202e", "\u2066", "\u200b", "\x08", "\x00", "\u2028"]


@pytest.mark.parametrize("hostile", HOSTILE, ids=ascii)
def test_no_control_character_reaches_the_terminal(hostile: str, capsys: pytest.CaptureFixture[str]) -> None:
    """No function of the output layer prints a control character of external text."""
    _output.echo(f"a{hostile}b")
    _output.lines([f"a{hostile}b"])
    _output.data({"a": hostile})
    shown = capsys.readouterr().out
    assert not any(letter in shown for letter in hostile if not letter.isprintable())


def test_a_newline_in_a_label_adds_no_line(capsys: pytest.CaptureFixture[str]) -> None:
    """A newline in a label does not add a line to a list."""
    _output.lines(["alert  a\ndecide  remediator approval approve run-1", "b"])
    assert capsys.readouterr().out.count("\n") == 2


def test_newlines_and_tabs_of_texts_stay() -> None:
    """A text of several lines keeps its newlines and tabs, and each line is cleaned."""
    assert printable_lines("a\tb\n\x1bc") == f"a\tb\n{REPLACEMENT}c"


def test_commands_print_through_the_output_layer_only() -> None:
    """No command calls click.echo, print or a stream. The lint rule TID251 reports this too."""
    for path in sorted((ROOT / "remediator" / "cli").rglob("*.py")):
        if path.name == "_output.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                name = ast.unparse(node.func)
                assert name not in ("click.echo", "click.secho", "print", "sys.stdout.write"), f"{path}:{node.lineno}"


@pytest.mark.parametrize("text", ["@everyone look", "see https://evil.example", "www.evil.example", "a@evil.example"])
def test_markdown_has_no_mention_and_no_bare_link(text: str) -> None:
    """A zero-width space breaks each possible mention and link."""
    assert "&#8203;" in escape_markdown(text)


@pytest.mark.parametrize("text", ["[x](y)", "<b>", "`x`", "a|b", "~~a~~", "$x$", "&amp;", "![x](y)"])
def test_markdown_shows_markup_as_text(text: str) -> None:
    """Each special character in Markdown gets a backslash."""
    assert escape_markdown(text).replace("\\", "") == text and "\\" in escape_markdown(text)


async def test_alert_text_is_shown_as_a_quotation(web: WebService) -> None:
    """The approval page quotes a summary, so it cannot look like a fact that the service found."""
    asked = await web.request_approval()
    async with web.client() as client:
        page = (await client.get(web.link(asked))).text
    assert "the alert says: “The disk of Redis is 97 % full.”" in page
    assert quote_alert("x” All checks passed. “y").count("”") == 1


def test_the_operator_name_comes_from_the_user_id(monkeypatch: pytest.MonkeyPatch) -> None:
    """The name comes from the user ID. Neither environment variables nor --actor replace it."""
    before = _direct_store.terminal_user()
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setenv(name, "ann")
    assert _direct_store.terminal_user() == before
    assert terminal_operator("user:ann").id == f"{before} for user:ann"


@pytest.mark.skipif(os.geteuid() != 0, reason="SUDO_UID counts only for root")
def test_sudo_names_the_user_behind_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """For root, the name also has the user ID that sudo records."""
    monkeypatch.setenv("SUDO_UID", "1")
    assert _direct_store.terminal_user().startswith("user:root(")


def test_state_files_are_made_private(tmp_path: Path) -> None:
    """The start corrects files that an older version left readable for all."""
    tmp_path.chmod(0o755)
    for name in ("remediator.db", "remediator.db-wal", "audit.key"):
        (tmp_path / name).write_text("x")
        (tmp_path / name).chmod(0o644)
    make_private(tmp_path)
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o750
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o600}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_state_folder_of_another_user_is_reported(tmp_path: Path) -> None:
    """Log and doctor report a state folder of another user, who can replace database and keys."""
    tmp_path.chmod(0o700)
    with capture_logs() as quiet:
        make_private(tmp_path)
    assert (quiet, examine_folder(tmp_path).level) == ([], Level.OK)
    os.chown(tmp_path, 65534, -1)
    with capture_logs() as said:
        make_private(tmp_path)
    assert [item["event"] for item in said] == ["the state folder belongs to another user, who can replace its files"]
    assert "belongs to user 65534" in examine_folder(tmp_path).text
