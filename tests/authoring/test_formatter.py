"""``remediator playbook fmt`` writes one format and loses neither content nor comments."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from demo.stack.settings import ROOT
from remediator.authoring.formatter import WIDTH, format_text
from remediator.cli.main import cli
from remediator.errors import RemediatorError

MESSY = """\
# the head
apiVersion:   remediator/v1
kind: Playbook   # what it is


name: "importer-down"
match:
    alertname: ImporterDown
mode: { default: shadow }
steps:
- id: pause
  # why it is paused
  with: {command: pause, values: {first: a long text of the first value, second: a long text of the second, third: xyz}}
- {id: go, for: [ ], when: 'evidence.a.ok'}
message: |
  first


  # not a comment, and two empty lines above
summary: >-
  One line.
  Another line.
# the end"""

TIDY = """\
# the head
apiVersion: remediator/v1
kind: Playbook   # what it is

name: "importer-down"
match:
  alertname: ImporterDown
mode: {default: shadow}
steps:
  - id: pause
  # why it is paused
    with:
      command: pause
      values: {first: a long text of the first value, second: a long text of the second, third: xyz}
  - {id: go, for: [], when: 'evidence.a.ok'}
message: |
  first


  # not a comment, and two empty lines above
summary: >-
  One line.
  Another line.
# the end
"""


def test_indentation_blank_lines_and_long_collections_are_corrected() -> None:
    """Quotes, comments, literal texts and line ends of sentences stay as they are."""
    assert format_text(MESSY, "p.yaml") == TIDY


@pytest.mark.slow
@pytest.mark.parametrize(
    "path",
    sorted(ROOT.glob("deploy/**/remediator*.yaml")),
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_a_file_keeps_its_content(path: Path) -> None:
    """The result has the same data and comments, is stable, and has no long collection.

    The shipped playbooks already have the format: see the test of the command below.
    """
    text = path.read_text()
    result = format_text(text, path.name)
    assert yaml.safe_load(result) == yaml.safe_load(text)
    assert result.count("#") == text.count("#")
    assert result == text or format_text(result, path.name) == result
    assert [line for line in result.splitlines() if len(line) > WIDTH and line.rstrip().endswith(("}", "]"))] == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: a\n name: b\n", "p.yaml:2:"),
        ("a: 1\na: 2\n", "p.yaml:2:1"),
        ("a: &x 1\nb: *x\n", "p.yaml:1:4"),
        ("a: [1,\n", "p.yaml:2:"),
    ],
)
def test_a_file_with_errors_is_not_touched(tmp_path: Path, text: str, message: str) -> None:
    """The error names line and column, and no traceback is shown."""
    with pytest.raises(RemediatorError) as caught:
        format_text(text, "p.yaml")
    assert message in str(caught.value)
    file = tmp_path / "p.yaml"
    file.write_text(text)
    done = CliRunner().invoke(cli, ["playbook", "fmt", str(file)])
    assert done.exit_code == 1
    assert isinstance(done.exception, RemediatorError)
    assert file.read_text() == text


def test_the_command_changes_files_once_and_keeps_their_mode(tmp_path: Path) -> None:
    """``--check`` writes nothing, and exits with 1 while a file has another format."""
    folder = tmp_path / "playbooks"
    (folder / "more").mkdir(parents=True)
    messy, tidy = folder / "more" / "messy.yaml", folder / "tidy.yml"
    messy.write_text(MESSY)
    messy.chmod(0o640)
    tidy.write_text(TIDY)

    check = CliRunner().invoke(cli, ["playbook", "fmt", "--check", str(folder)])
    assert (check.exit_code, check.output) == (1, f"{messy}: not formatted\n2 files, 1 not formatted\n")
    assert messy.read_text() == MESSY

    done = CliRunner().invoke(cli, ["playbook", "fmt", str(folder)])
    assert (done.exit_code, done.output) == (0, f"{messy}: formatted\n2 files, 1 changed\n")
    assert messy.read_text() == TIDY
    assert stat.S_IMODE(messy.stat().st_mode) == 0o640
    assert CliRunner().invoke(cli, ["playbook", "fmt", "--check", str(folder)]).exit_code == 0
    assert sorted(path.name for path in folder.rglob("*") if path.is_file()) == ["messy.yaml", "tidy.yml"]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    """The command changes the file that a symbolic link names, and keeps the link."""
    file, link = tmp_path / "file.yaml", tmp_path / "link.yaml"
    file.write_text("a:   1\n")
    link.symlink_to(file)
    assert CliRunner().invoke(cli, ["playbook", "fmt", str(link)]).exit_code == 0
    assert link.is_symlink()
    assert file.read_text() == "a: 1\n"


@pytest.mark.slow
def test_the_playbooks_and_the_cookbook_have_the_format() -> None:
    """The command of the README succeeds in the repository. If this test fails, run the command without ``--check``."""
    done = CliRunner().invoke(cli, ["playbook", "fmt", "--check", str(ROOT / "playbooks"), str(ROOT / "cookbook")])
    assert done.exit_code == 0, done.output


def test_a_new_playbook_has_the_format(tmp_path: Path) -> None:
    """A playbook written by ``playbook new`` already has the format."""
    inventory = str(ROOT / "deploy/compose/inventory.yaml")
    made = CliRunner().invoke(
        cli,
        ["playbook", "new", "cache-slow", "--target", "redis", "--inventory", inventory, "--output-dir", str(tmp_path)],
    )
    assert made.exit_code == 0, made.output
    done = CliRunner().invoke(cli, ["playbook", "fmt", "--check", str(tmp_path)])
    assert done.exit_code == 0, done.output
