"""``remediator playbook import`` turns a Markdown runbook into a skeleton. Lint refuses its gaps."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from remediator.authoring.runbook_import import GAP, make_skeleton, read_runbook, skeleton_text
from remediator.cli.main import cli
from remediator.errors import InputError

RUNBOOK = """\
# Importer

## Queue is long

```sh
$ systemctl status importer
curl -fs http://importer/healthz
```

### Empty it: the "fast" way

```bash
# pause first
/usr/local/bin/import pause \\
  --all
systemctl restart importer
rm -rf "/var/spool/x
```

```yaml
not: shell
```

## Disk is full

~~~
df -h
~~~
"""


def test_headings_and_shell_blocks_are_read() -> None:
    """The importer drops prompts and comments, joins continued lines, and ignores other blocks."""
    parts = {part.title: part.commands for part in read_runbook(RUNBOOK)}
    assert parts["Queue is long"] == ("systemctl status importer", "curl -fs http://importer/healthz")
    assert parts['Empty it: the "fast" way'] == (
        "/usr/local/bin/import pause --all",
        "systemctl restart importer",
        'rm -rf "/var/spool/x',
    )
    assert parts["Disk is full"] == ("df -h",)


def test_a_section_has_its_subsections_and_nothing_else() -> None:
    """A section is imported with its subsections only. Known commands get a suggestion, and other commands a gap."""
    made = make_skeleton(RUNBOOK, "runbook.md", "queue is long")
    assert [(entry.kind, entry.name) for entry in made.diagnoses] == [
        ("action", "service.status"),
        ("check", "http.ok"),
    ]
    assert [entry.name for entry in made.steps] == [GAP, "service.restart", GAP]
    assert len({entry.id for entry in (*made.diagnoses, *made.steps)}) == 5


def test_lint_refuses_every_gap(tmp_path: Path) -> None:
    """Each GAP in place of a name is an error with its line. Without gaps, lint refuses nothing."""
    (tmp_path / "runbook.md").write_text(RUNBOOK)
    arguments = ["playbook", "import", str(tmp_path / "runbook.md"), "--section", "Queue is long"]
    done = CliRunner().invoke(cli, [*arguments, "--output-dir", str(tmp_path / "playbooks")])
    assert done.exit_code == 0, done.output
    path = tmp_path / "playbooks/queue-is-long.yaml"
    lines = path.read_text().splitlines()
    gaps = [at for at, line in enumerate(lines, 1) if re.search(r"(: |\[)GAP[\]}]?( |$)", line)]
    linted = CliRunner().invoke(cli, ["lint", str(tmp_path / "playbooks")])
    assert linted.exit_code == 1
    reported = {int(found) for found in re.findall(r"queue-is-long\.yaml:(\d+):\d+: error", linted.output)}
    assert len(gaps) > 5
    targets = {at for at in gaps if lines[at - 1].startswith("target:")}  # lint checks targets only with an inventory
    assert set(gaps) - targets <= reported

    again = CliRunner().invoke(cli, [*arguments, "--output-dir", str(tmp_path / "playbooks")])
    assert isinstance(again.exception, InputError) and "already exists" in str(again.exception)


def test_checks_below_a_verify_heading_become_verification() -> None:
    """A check below a heading such as *Verify* goes to verify. Other commands there are not treated as changes."""
    text = "# Shop is down\n```\ncurl shop\n```\n## Fix\n```\nsystemctl restart shop\n```\n"
    text += "## Verify the recovery\n```\ncurl -fsS http://shop/healthz\nsystemctl status shop\n```\n"
    made = make_skeleton(text, "runbook.md")
    assert [entry.name for entry in made.diagnoses] == ["http.ok", "service.status"]
    assert [entry.name for entry in made.steps] == ["service.restart"]
    assert [(entry.name, entry.line) for entry in made.proofs] == [("http.ok", 9)]
    shown = skeleton_text(made)
    proof = (
        "# Verify the recovery (line 9):  curl -fsS http://shop/healthz\n    - {check: http.ok}\n    - {check: GAP} "
    )
    assert proof in shown and "GAP: what else proves" in shown


def test_a_read_only_runbook_has_no_steps() -> None:
    """The skeleton of a read-only runbook is valid YAML with an empty list of steps."""
    text = skeleton_text(make_skeleton(RUNBOOK, "runbook.md", "Disk is full", "DiskFull", "redis"))
    assert "match: {alertname: DiskFull}" in text and "target: redis\n" in text
    assert re.search(r"steps:\n  \[\]", text)


@pytest.mark.parametrize(("section", "says"), [("Queue is lng", "did you mean 'Queue is long'"), ("Importer", "")])
def test_a_wrong_section_is_named(section: str, says: str) -> None:
    """The error names the closest heading. The heading of the whole document is allowed."""
    if says:
        with pytest.raises(InputError, match=says):
            make_skeleton(RUNBOOK, "runbook.md", section)
    else:
        assert len(make_skeleton(RUNBOOK, "runbook.md", section).steps) == 3


def test_a_text_without_commands_is_an_error() -> None:
    """For a text without commands, the command fails and writes nothing."""
    with pytest.raises(InputError, match="no shell commands"):
        make_skeleton("# Title\n\nCall Ann.\n", "runbook.md")
