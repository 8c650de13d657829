"""The commands that print the files and keys for another host."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from remediator.cli.host import command
from remediator.clients.ssh.bundle import wrapper_text
from remediator.core.clock import SystemClock
from remediator.playbooks.discovered import TargetSet
from remediator.playbooks.inventory import Inventory
from remediator.storage.repositories import discovered
from remediator.storage.sqlite import SqliteStore

INVENTORY = {
    "apiVersion": "remediator/v1",
    "kind": "Inventory",
    "defaults": {"ssh": {"identity_file": "id", "known_hosts": "known_hosts"}},
    "services": {
        "web-1": {"platform": {"kind": "systemd", "unit": "web.service"}, "host": {"address": "web-1"}},
        "api-1": {"platform": {"kind": "systemd", "unit": "api.service"}, "host": {"address": "web-1"}},
        "web-2": {"platform": {"kind": "systemd", "unit": "web.service"}, "host": {"address": "web-2", "user": "root"}},
        "local": {"platform": {"kind": "systemd", "unit": "local.service"}},
    },
}


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    """Return settings with three services on two other hosts."""
    (tmp_path / "playbooks").mkdir()
    (tmp_path / "inventory.yaml").write_text(yaml.safe_dump(INVENTORY))
    (tmp_path / "id.pub").write_text("ssh-ed25519 AAAA remediator\n")
    path = tmp_path / "remediator.yaml"
    content = {"apiVersion": "remediator/v1", "kind": "Config", "state": "state", "playbooks": ["playbooks"]}
    content |= {"inventory": "inventory.yaml", "listen": "127.0.0.1:0", "webhook": {"token_file": "token"}}
    path.write_text(yaml.safe_dump(content))
    return path


def run(settings: Path, *words: str) -> Result:
    """Run a command."""
    return CliRunner().invoke(command, [*words, "--config", str(settings)])


def test_the_wrapper_is_printed_without_settings() -> None:
    """The command prints the wrapper without any settings."""
    assert CliRunner().invoke(command, ["wrapper"]).output == wrapper_text()


def test_the_allow_list_has_the_units_of_the_host(settings: Path) -> None:
    """The allow-list has exactly the units of the services on the host."""
    found = json.loads(run(settings, "allow-list", "web-1").output)
    verbs = ["status", "logs", "restart"]
    assert found["units"] == {"api.service": verbs, "web.service": verbs}
    assert found["sudo"] == ["/usr/bin/sudo", "-n"]
    assert json.loads(run(settings, "allow-list", "web-2").output).get("sudo") is None, "its user is root"


def test_a_discovered_host_is_known_after_the_first_look_up(settings: Path) -> None:
    """The command knows a discovered host after the first look-up of the service, which stores the targets."""
    template = {"platform": {"kind": "systemd", "unit": "job.service"}, "host": {"address": "${host}"}}
    allow = {"names": ["job-*"], "labels": {"host": ["job-*"]}, "targets": 5}
    discovery = {"kind": "file_sd", "files": ["t.json"], "name": "${host}", "allow": allow, "template": template}
    content = {**INVENTORY, "discover": {"jobs": discovery}}
    (settings.parent / "inventory.yaml").write_text(yaml.safe_dump(content))
    assert "unknown service 'job-1'" in str(run(settings, "allow-list", "job-1").exception)

    targets = TargetSet.of(Inventory.model_validate(content).discover["jobs"], [{"host": "job-1"}])
    (settings.parent / "state").mkdir(mode=0o700)

    async def look_up() -> None:
        store = SqliteStore(settings.parent / "state/remediator.db", SystemClock())
        await store.write(lambda tx: discovered.save(tx, "jobs", targets, ""))
        await store.close()

    asyncio.run(look_up())
    assert set(json.loads(run(settings, "allow-list", "job-1").output)["units"]) == {"job.service"}


def test_the_authorized_key_has_a_forced_command(settings: Path) -> None:
    """The line has the wrapper as forced command and allows nothing else."""
    assert run(settings, "authorized-key", "web-1").output == (
        'restrict,command="/usr/bin/python3 -IS /usr/local/bin/remediator-remote /etc/remediator-remote.json" '
        "ssh-ed25519 AAAA remediator\n"
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("allow-list", "local"), "'local' has no host in the inventory"),
        (("allow-list", "nobody"), "unknown service 'nobody'"),
    ],
)
def test_a_service_without_a_host_is_an_error(settings: Path, words: tuple[str, ...], said: str) -> None:
    """For a service without a host, the error is one sentence."""
    assert said in str(run(settings, *words).exception)


def test_local_files_of_a_service_on_another_host_are_refused(settings: Path) -> None:
    """A service on another host cannot use local files or processes, and needs a key for the host."""
    inventory = settings.parent / "inventory.yaml"
    app = {"platform": {"kind": "systemd", "unit": "a.service"}, "host": {"address": "a"}}
    content = {**INVENTORY, "services": {"app": {**app, "app_server": {"pid_file": "/run/a.pid"}}}}
    inventory.write_text(yaml.safe_dump(content))
    said = str(run(settings, "allow-list", "app").exception)
    assert "inventory.yaml:" in said and "app_server of a service on another host cannot be reached" in said

    inventory.write_text(yaml.safe_dump({**content, "defaults": {}, "services": {"app": app}}))
    said = str(run(settings, "allow-list", "app").exception)
    assert "the host has no identity_file and no known_hosts" in said
