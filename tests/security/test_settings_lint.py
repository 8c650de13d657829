"""Insecure settings: the worst are refused, and lint, ``config check`` and the doctor report the others."""

from __future__ import annotations

import os
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from remediator.authoring.lint.runner import Sources, lint
from remediator.cli.main import cli
from remediator.config import Config
from remediator.errors import ConfigurationError
from remediator.extensions.registry import Registry

pytestmark = pytest.mark.promise(11)
BASE: dict[str, Any] = {
    "apiVersion": "remediator/v1",
    "kind": "Config",
    "state": "state",
    "playbooks": ["playbooks"],
    "inventory": "inventory.yaml",
    "webhook": {"token_file": "token"},
}
MAIL = {"kind": "email", "to": ["sre@example.com"], "sender": "r@example.com", "password_file": "secret"}
OIDC = {"client_id": "remediator"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with all files that the settings name."""
    (tmp_path / "playbooks").mkdir()
    (tmp_path / "inventory.yaml").write_text("{apiVersion: remediator/v1, kind: Inventory, services: {}}")
    write(tmp_path / "token", "a-token-of-more-than-sixteen-characters")
    write(tmp_path / "secret", "secret")
    return tmp_path


def write(path: Path, text: str, mode: int = 0o600) -> None:
    """Write a file with this mode, whatever the umask is."""
    path.write_text(text)
    path.chmod(mode)


def check(folder: Path, **more: Any) -> Result:
    """Run ``config check`` on settings with these keys."""
    (folder / "remediator.yaml").write_text(yaml.safe_dump(BASE | more))
    return CliRunner().invoke(cli, ["config", "check", "--config", str(folder / "remediator.yaml")])


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a proxy at every address": (
        {"access": {"proxy": {"addresses": ["0.0.0.0/1", "128.0.0.0/1"]}}},
        "trust almost every address",
    ),
    "an HTTP issuer": (
        {"access": {"oidc": {**OIDC, "issuer": "http://login.example.com"}}, "public_url": "https://r.example.com"},
        "must begin with https://",
    ),
    "a password by SMTP in clear": ({"channels": {"mail": {**MAIL, "host": "mail.example.com"}}}, "in clear"),
    "HTTP links beside a certificate": (
        {"tls": {"certificate_file": "c", "key_file": "k"}, "public_url": "http://r.example.com"},
        "must begin with https://",
    ),
    "a network address without credentials": ({"listen": "0.0.0.0:8095", "webhook": {}}, "authentication is required"),
}


@pytest.mark.parametrize(("settings", "told"), REFUSED.values(), ids=REFUSED)
def test_the_worst_settings_are_refused(folder: Path, settings: dict[str, Any], told: str) -> None:
    """The service does not start with the worst settings, and ``config check`` gives the reason."""
    done = check(folder, **settings)
    assert isinstance(done.exception, ConfigurationError)  # the command prints it, and exits with 2
    assert told in str(done.exception)


def test_a_token_of_one_character_is_refused(folder: Path) -> None:
    """A token of one character is refused, because it can be guessed at once."""
    write(folder / "token", "x")
    done = check(folder)
    assert "has fewer than 8 characters" in f"{done.output}{done.exception}"


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_a_mail_server_on_this_host_may_get_the_password(folder: Path, host: str) -> None:
    """A mail server on this host may get the password without TLS, because nothing leaves the host."""
    assert check(folder, channels={"mail": {**MAIL, "host": host}}).exit_code == 0


WARNED: dict[str, tuple[dict[str, Any], str]] = {
    "plain-http by its links": ({"public_url": "http://r.example.com"}, "plain-http"),
    "plain-http without links": ({"listen": "0.0.0.0:8095"}, "plain-http"),
    "wide-proxy": ({"access": {"proxy": {"addresses": ["10.0.0.0/8"]}}}, "wide-proxy"),
    "credential-in-clear": (
        {"alertmanagers": [{"url": "http://am.example.com", "token_file": "secret"}]},
        "credential-in-clear",
    ),
    "password-in-settings": (
        {"store": "postgresql://remediator:secret@db.example.com/remediator", "audit": {"key_file": "secret"}},
        "password-in-settings",
    ),
    "password-in-settings as a parameter": (
        {"store": "postgresql://db.example.com/remediator?user=r&password=secret"},
        "password-in-settings",
    ),
}


@pytest.mark.parametrize(("settings", "rule"), WARNED.values(), ids=WARNED)
def test_other_risks_are_warnings_with_their_place(folder: Path, settings: dict[str, Any], rule: str) -> None:
    """``config check``, lint and the doctor report the same warnings, and the settings stay valid."""
    done = check(folder, **settings)
    assert done.exit_code == 0, done.output
    assert f"({rule})" in done.output and "remediator.yaml:" in done.output
    assert rule in rules(folder)
    doctor = CliRunner().invoke(cli, ["doctor", "--config", str(folder / "remediator.yaml")])
    assert str(folder / "remediator.yaml:") in doctor.output.replace("\n", ""), doctor.output


@pytest.mark.parametrize("store", ["postgresql://remediator@db.example.com/remediator", {"url_file": "secret"}])
def test_a_database_url_without_a_password_or_in_a_file_is_no_finding(folder: Path, store: Any) -> None:
    """A URL without password is valid: PostgreSQL may identify the service by certificate or user."""
    assert "(password-in-settings)" not in check(folder, store=store).output


def rules(folder: Path) -> set[str]:
    """Return the rules that lint finds in the settings."""
    report = lint(Sources([], None, folder / "remediator.yaml"), Registry().catalogue(), Config, date(2026, 1, 1))
    return {item.rule for item in report.diagnostics}


def test_good_settings_have_no_findings(folder: Path) -> None:
    """HTTPS, long tokens, private files and a place for checkpoints give no findings."""
    for name in ("crt", "key"):
        write(folder / name, name)
    done = check(
        folder,
        listen="0.0.0.0:8443",
        tls={"certificate_file": "crt", "key_file": "key"},
        audit={"checkpoints": [{"kind": "file", "path": "elsewhere"}]},
        access={"proxy": {"addresses": ["10.0.0.7", "fd00::7", "unix"]}},
    )
    assert done.exit_code == 0, done.output
    assert rules(folder) == set()
    assert "warning" not in done.output


@pytest.mark.parametrize(
    ("content", "mode", "rule"), [("a-short-one", 0o600, "short-token"), ("x" * 20, 0o644, "readable-secret")]
)
def test_a_short_token_and_a_file_that_all_can_read_are_warnings(
    folder: Path, content: str, mode: int, rule: str
) -> None:
    """A short token and a secret file that all users can read are warnings."""
    write(folder / "token", content, mode)
    assert f"({rule})" in check(folder).output
    assert rules(folder) == {rule, "no-checkpoints"}
    assert os.stat(folder / "token").st_mode & 0o777 == mode


@pytest.mark.parametrize("name", ["people.yaml", "inventory.yaml", "playbooks", "playbooks/one.yaml"])
def test_a_file_that_all_can_change_is_a_warning(folder: Path, name: str) -> None:
    """A people file that all users can write is a warning, because they could grant every right."""
    (folder / "people.yaml").write_text("{kind: People, people: {}}")
    one = {
        "apiVersion": "remediator/v1",
        "kind": "Fragment",
        "name": "one",
        "steps": [{"id": "a", "action": "service.logs"}],
    }
    (folder / "playbooks/one.yaml").write_text(yaml.safe_dump(one))
    for path in (folder / "people.yaml", folder / "inventory.yaml", folder / "playbooks/one.yaml"):
        path.chmod(0o644)
    (folder / "playbooks").chmod(0o755)
    quiet = check(folder, access={"people": "people.yaml"}).output
    assert "(writable-settings)" not in quiet
    (folder / name).chmod((folder / name).stat().st_mode | 0o002)
    assert f"all users can change {folder / name}" in check(folder, access={"people": "people.yaml"}).output
