"""Replicas on PostgreSQL sign with the same keys, or refuse to start."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.promises.conftest import MakeInstallation
from tests.support.replicas import CrashingRemediator


@pytest.mark.long
@pytest.mark.promise(6)
def test_postgresql_without_named_keys_is_refused(make_installation: MakeInstallation, postgres_url: str) -> None:
    """Without named keys the start fails, because replicas would reject each other's links and sessions."""
    replica = make_installation(store=postgres_url).replica()
    replica.write()
    replica.shares_keys = False
    for setting in ("approvals.keys_file", "audit.key_file"):
        group, _, name = setting.partition(".")
        given = replica.settings.pop(group)
        assert f"{setting}: required with PostgreSQL" in _refusal(replica)
        replica.settings[group] = {name: str(replica.folder / "none")}
        assert "run 'remediator keys create' on one machine" in _refusal(replica)
        replica.settings[group] = given


@pytest.mark.long
@pytest.mark.promise(6)
def test_a_replica_with_other_keys_is_refused(
    make_installation: MakeInstallation, postgres_url: str, tmp_path: Path
) -> None:
    """A second replica needs the keys of the first. Additional keys that only verify are allowed."""
    installation = make_installation(store=postgres_url)
    first, second = installation.replica(), installation.replica()
    first.start()
    second.write()
    shared = Path(second.settings["approvals"]["keys_file"])
    links, audit = dict(second.settings["approvals"]), dict(second.settings["audit"])

    second.settings["approvals"] = {"keys_file": str(_key(tmp_path / "other", "ab" * 32))}
    assert "approvals.keys_file: the key differs from the key of" in _refusal(second)
    second.settings["approvals"] = links

    second.settings["audit"] = {"key_file": str(_key(tmp_path / "audit", "cd" * 32))}
    assert "audit.key_file: the key differs from the key of" in _refusal(second)
    second.settings["audit"] = audit

    second.settings["approvals"] = {"keys_file": str(_key(tmp_path / "both", shared.read_text() + "ab" * 32))}
    second.start()
    assert first.get("/readyz")["ready"] and second.get("/readyz")["ready"]


def _refusal(replica: CrashingRemediator) -> str:
    """Return the error without the warning about the superuser, which the start logs before it."""
    done = replica.command_line("serve")
    error = "".join(line for line in done.stderr.splitlines(keepends=True) if not line.startswith('{"'))
    assert done.returncode in (2, 3) and error.startswith("remediator: "), done
    return error


def _key(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o600)
    return path
