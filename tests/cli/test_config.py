"""The commands ``remediator config`` and ``completion``, and the option ``--version``."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.support import commands
from tests.support.servers.remediator import ROOT

SETTINGS = """\
apiVersion: remediator/v1
kind: Config
state: state
playbooks: [playbooks]
inventory: inventory.yaml
store: postgresql://remediator:hunter2@db/remediator
prometheus: {url: "http://127.0.0.1:9090", headers: {X-Scope: tenant-key}}
channels:
  oncall: {kind: webhook, url: "http://127.0.0.1:1/", token_file: chat.token}
  pager: {kind: log, routing_key: abcdef}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with settings that contain several secrets."""
    (tmp_path / "remediator.yaml").write_text(SETTINGS)
    (tmp_path / "chat.token").write_text("s3cr3t-of-the-chat")
    (tmp_path / "inventory.yaml").write_text("apiVersion: remediator/v1\nkind: Inventory\nservices: {}\n")
    (tmp_path / "playbooks").mkdir()
    return tmp_path


def remediator(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder."""
    return commands.remediator(*arguments, folder=folder, environment={**os.environ, **environment})


@pytest.mark.parametrize("options", [(), ("--format", "json"), ("--changed",)])
def test_config_show_contains_no_secret(folder: Path, options: tuple[str, ...]) -> None:
    """The output hides passwords in URLs, headers and keys of plugins, but shows paths of secret files."""
    done = remediator(folder, "config", "show", *options)
    assert done.returncode == 0, done.stderr
    for secret in ("hunter2", "tenant-key", "abcdef", "s3cr3t"):
        assert secret not in done.stdout
    assert "chat.token" in done.stdout
    assert "postgresql://remediator:" in done.stdout


def test_config_show_marks_defaults_and_is_valid_yaml(folder: Path) -> None:
    """The YAML output marks defaults. Apart from hidden values, it has the content of the JSON output."""
    done = remediator(folder, "config", "show")
    assert 'listen: "127.0.0.1:8095"  # default' in done.stdout
    assert '  resolve_grace: "5m"  # default' in done.stdout
    assert yaml.safe_load(done.stdout)["timing"]["resolve_grace"] == "5m"
    changed = yaml.safe_load(remediator(folder, "config", "show", "--changed").stdout)
    assert changed.keys() == yaml.safe_load(SETTINGS).keys()


def test_config_check_says_what_is_wrong_and_where(folder: Path) -> None:
    """A wrong channel setting is reported with its line. An environment variable names settings in another folder."""
    done = remediator(folder, "config", "check")
    assert done.returncode == 2
    assert "remediator.yaml:10:" in done.stderr and "routing_key" in done.stderr
    text = SETTINGS.replace(", routing_key: abcdef", "")
    (folder / "remediator.yaml").write_text(text)
    done = remediator(folder.parent, "config", "check", REMEDIATOR_CONFIG=str(folder / "remediator.yaml"))
    assert (done.returncode, done.stderr) == (0, "")
    assert "valid; 0 playbooks, 0 services" in done.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script(shell: str, tmp_path: Path) -> None:
    """The script registers the program for completion."""
    done = remediator(tmp_path, "completion", shell)
    assert done.returncode == 0
    assert "_REMEDIATOR_COMPLETE" in done.stdout


def test_completion_completes_commands_and_options(tmp_path: Path) -> None:
    """The completion answers the requests of the bash script."""
    for words, wanted in (("remediator playb", "plain,playbook"), ("remediator doctor --se", "plain,--send")):
        asked = {"_REMEDIATOR_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
        assert wanted in remediator(tmp_path, **asked).stdout


_ASK = {
    "bash": """source {script}
COMP_WORDS=({words}); COMP_CWORD={at}; _remediator_completion remediator; printf '%s\\n' "${{COMPREPLY[@]}}" """,
    "zsh": """autoload -Uz compinit; compinit -u -d {folder}/dump; source {script}
compadd() {{ print -l -- ${{(P)@[-1]}} }}; _describe() {{ print -l -- "${{(@P)3}}" }}
words=({words}); CURRENT=$(({at} + 1)); _remediator_completion""",
    "fish": """source {script}; complete -C "{line}" """,
}
"""Commands with which a real shell prints its completions."""


@pytest.mark.long
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("remediator playb", "playbook"),
        ("remediator doctor --se", "--send"),
        ("remediator playbook set-mode shop-down --mode sh", "shadow"),
        ("remediator playbook trigger sh", "shop-down"),
    ],
)
def test_a_shell_completes(shell: str, line: str, wanted: str, folder: Path) -> None:
    """A real shell completes commands, options, allowed values and names of playbooks."""
    if shutil.which(shell) is None:
        pytest.skip(f"needs {shell}")
    (folder / "remediator.yaml").write_text(SETTINGS.replace(", routing_key: abcdef", ""))
    (folder / "playbooks").mkdir(exist_ok=True)
    for name in ("shop-down.yaml", "shop-down.test.yaml"):
        (folder / "playbooks" / name).write_text("{}")
    command = folder / "bin" / "remediator"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m remediator "$@"\n')
    command.chmod(0o755)
    script = folder / "script"
    script.write_text(remediator(folder, "completion", shell).stdout)
    asked = _ASK[shell].format(script=script, folder=folder, words=line, at=line.count(" "), line=line)
    argv = [shell, "--norc", "-c"] if shell == "bash" else [shell, "-f", "-c"] if shell == "zsh" else [shell, "-c"]
    environment = {"PATH": f"{command.parent}:{os.environ['PATH']}", "HOME": str(folder), "TERM": "dumb"}
    done = subprocess.run([*argv, asked], cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert wanted in re.split(r"[\s:]", done.stdout), (done.stdout, done.stderr)


def test_version_names_the_build(tmp_path: Path) -> None:
    """`--version` shows the build, which the container image sets."""
    done = remediator(tmp_path, "--version", REMEDIATOR_BUILD="abc1234")
    assert done.stdout.startswith("remediator ")
    assert "(build abc1234)" in done.stdout
