"""Lint, the start, playbook tests and the pipeline follow the declarations of commands and requests in the settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from remediator.cli.main import cli
from remediator.config import Config
from remediator.errors import ConfigurationError
from remediator.playbooks.loader import load_config

SETTINGS: dict[str, Any] = {
    "apiVersion": "remediator/v1",
    "kind": "Config",
    "state": "state",
    "playbooks": ["playbooks"],
    "inventory": "inventory.yaml",
    "channels": {"sre": {"kind": "log"}},
    "alertmanagers": [{"url": "http://127.0.0.1:9093"}],
    "commands": {
        "queue-length": {"argv": ["/bin/echo", "{queue}"], "parameters": {"queue": "[a-z]+"}, "read_only": True},
        "purge": {"argv": ["/bin/true"], "destructive": False, "interrupts": False, "undo": "fill"},
        "fill": {"argv": ["/bin/true"], "destructive": False, "interrupts": False},
        "drain": {"argv": ["/bin/true"], "destructive": False},
        "wipe": {"argv": ["/bin/true"]},
        "trim": {"argv": ["/bin/true"], "destructive": False, "on_host": True},
    },
    "requests": {"flush": {"url": "http://127.0.0.1:1/flush", "fields": ["shop"]}},
}
INVENTORY = {
    "apiVersion": "remediator/v1",
    "kind": "Inventory",
    "services": {"shop": {"platform": {"kind": "systemd", "unit": "shop.service"}}},
}
PLAYBOOK: dict[str, Any] = {
    "apiVersion": "remediator/v1",
    "kind": "Playbook",
    "name": "queue-long",
    "summary": "The queue is long; empty it.",
    "match": {"alertname": "QueueLong"},
    "mode": "auto",
    "target": "shop",
    "diagnose": [
        {"id": "length", "action": "command.run", "with": {"command": "queue-length", "values": {"queue": "orders"}}}
    ],
    "conclude": [{"id": "long", "when": "evidence.length.ok", "cause": "The queue is long."}],
    "steps": [{"id": "act", "for": ["long"], "action": "command.run", "with": {"command": "purge"}}],
    "verify": {
        "settle": "1s",
        "within": "1m",
        "checks": [{"check": "command.check", "with": {"command": "queue-length", "values": {"queue": "orders"}}}],
    },
    "escalate": {"to": ["sre"], "message": "The queue is still long."},
}
ALERT = {"labels": {"alertname": "QueueLong", "service": "shop"}}
GIVEN = {
    "checks": {"command.check": [{"answer": "fail"}, {"answer": "ok", "after": "command.run"}]},
    "actions": {"command.run": [{"outcome": "ok", "with": {"command": "queue-length"}}, {"outcome": "ok"}]},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return an installation whose playbook runs a declared command."""
    (tmp_path / "playbooks").mkdir()
    for name, content in (("remediator", SETTINGS), ("inventory", INVENTORY), ("playbooks/queue-long", PLAYBOOK)):
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(content))
    return tmp_path


def lint(folder: Path) -> str:
    """Return the findings of lint."""
    return CliRunner().invoke(cli, ["lint", str(folder / "playbooks")]).output


def change(folder: Path, section: str, **parts: Any) -> None:
    """Change the first entry of a section of the playbook."""
    written = {**PLAYBOOK, section: [{**PLAYBOOK[section][0], **parts}]}
    (folder / "playbooks/queue-long.yaml").write_text(yaml.safe_dump(written))


def check(folder: Path, case: dict[str, Any]) -> str:
    """Run one test of the playbook through the production pipeline, and return its output."""
    suite = {"apiVersion": "remediator/v1", "kind": "PlaybookTest", "playbook": "queue-long", "given": GIVEN}
    suite["tests"] = [{"name": "case", "alerts": [ALERT], **case}]
    (folder / "playbooks/queue-long.test.yaml").write_text(yaml.safe_dump(suite))
    done = CliRunner().invoke(cli, ["test", str(folder / "playbooks")])
    return done.output if done.exit_code else ""


def test_a_declared_command_has_no_findings(folder: Path) -> None:
    """Lint accepts a read-only command as diagnosis and proof, and a harmless command as step."""
    out = lint(folder)
    assert "(unknown-" not in out and "(not-read-only)" not in out and "(destructive-auto)" not in out, out


@pytest.mark.parametrize(
    ("with_", "says"),
    [
        ({"command": "purg"}, "the settings do not allow the command 'purg'"),
        ({"command": "purge", "values": {"queue": "x"}}, "the command 'purge' does not take the value 'queue'"),
        ({"command": "trim"}, "the command 'trim' runs on the host of its target, but 'shop' has none"),
        ({"command": "queue-length"}, "the command 'queue-length' needs the value 'queue'"),
        ({"command": "queue-length", "values": {"queue": "A1"}}, "does not allow 'A1' for 'queue'"),
    ],
)
def test_lint_knows_the_commands_and_their_values(folder: Path, with_: dict[str, Any], says: str) -> None:
    """Lint finds a wrong name or value of a command before the alert fires."""
    change(folder, "steps", **{"with": with_})
    assert says in lint(folder)


def test_lint_knows_the_requests(folder: Path) -> None:
    """Lint finds a wrong name or value of a request before the alert fires."""
    change(folder, "steps", action="http.request", **{"with": {"request": "flsh"}})
    assert "the settings do not allow the request 'flsh'" in lint(folder)
    change(folder, "steps", action="http.request", **{"with": {"request": "flush", "fields": {"shp": 1}}})
    out = lint(folder)
    assert "does not take the value 'shp'" in out and "did you mean 'shop'" in out


def test_a_command_that_changes_something_cannot_diagnose(folder: Path) -> None:
    """Lint refuses such a command as a diagnosis, and shows how to declare a read-only command."""
    change(folder, "diagnose", **{"with": {"command": "purge"}})
    out = lint(folder)
    assert "a diagnosis must not change anything" in out and "read_only: true in commands of the settings" in out


def test_lint_warns_of_an_undeclared_command_in_mode_auto(folder: Path) -> None:
    """Lint warns because the effect of an undeclared command is unknown: it may lose data."""
    change(folder, "steps", **{"with": {"command": "wipe"}})
    assert "destructive-auto" in lint(folder)


@pytest.mark.promise(12)
@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("purge", {"steps": {"act": "ok"}, "outcome": "succeeded"}),
        (
            "drain",
            {"steps": {}, "reason": "approval_expired", "messages": [{"kind": "approval", "contains": "effect"}]},
        ),
        ("wipe", {"steps": {}, "reason": "approval_expired"}),
    ],
)
def test_the_declaration_decides_whether_a_person_is_asked(folder: Path, command: str, expected: Any) -> None:
    """Only a command declared as neither destructive nor interrupting runs without approval."""
    change(folder, "steps", **{"with": {"command": command}})
    assert check(folder, {"expect": expected}) == ""


@pytest.mark.parametrize(
    ("commands", "says"),
    [
        ({"a": {"argv": ["/bin/true"], "undo": "b"}}, "unknown undo 'b'"),
        ({"a": {"argv": ["/bin/true"], "on_host": True, "environment": {"A": "b"}}}, "the host sets the variables"),
        ({"a": {"argv": ["/bin/true"], "undo": "b"}, "b": {"argv": ["/bin/true"]}}, "an undo has no approver"),
        ({"a": {"argv": ["/bin/true"], "read_only": True, "destructive": True}}, "cannot be read-only and destructive"),
    ],
)
def test_contradictions_in_the_settings_are_errors(folder: Path, commands: dict[str, Any], says: str) -> None:
    """Contradictory declarations are reported when the settings are read."""
    (folder / "remediator.yaml").write_text(yaml.safe_dump({**SETTINGS, "commands": commands}))
    with pytest.raises(ConfigurationError, match=says):
        load_config(folder / "remediator.yaml", Config)
