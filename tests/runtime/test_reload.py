"""Hot reload on a real service: a valid change is used, and an invalid one is reported and changes nothing."""

from __future__ import annotations

import copy
import json
import os
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml

from remediator.playbooks.loader import LoadedConfig
from remediator.runtime.reload import Signatures, reload
from tests.support import commands
from tests.support.servers import until
from tests.support.servers.receivers import Receiver, receiver
from tests.support.servers.remediator import PLAYBOOK, Remediator
from tests.support.web_service import web_service

OK = "remediator_playbooks_last_reload_successful"


class Reloaded(Remediator):
    """A remediator that only observes a service, and notifies a chat."""

    def __init__(self, folder: Path, chat: Receiver) -> None:
        super().__init__(folder)
        self.playbooks = [observing("redis-down", "RedisDown")]
        self.inventory["services"] = {
            "redis": {
                "platform": {"kind": "supervisor", "url": "unix:///nowhere.sock", "program": "redis"},
                "redis": {"host": "127.0.0.1", "port": 1},
            }
        }
        self.settings["channels"] = {"chat": {"kind": "webhook", "url": chat.url}}
        self.settings["watchdog"] = {"notify": ["chat"]}

    def save(self, playbook: dict[str, Any]) -> Path:
        """Write a playbook as an editor does."""
        path = self.folder / "playbooks" / f"{playbook['name']}.yaml"
        path.write_text(yaml.safe_dump(playbook))
        return path

    def gauge(self) -> str:
        """Return the gauge that shows whether the files are active."""
        return next(line.split()[1] for line in self.metrics().splitlines() if line.startswith(OK))

    def version_of_the_run(self) -> str:
        """Return the playbook hash of the only run."""
        with closing(sqlite3.connect(f"file:{self.folder / 'state/remediator.db'}?mode=ro", uri=True)) as connection:
            ((found,),) = connection.execute("select playbook_hash from runs")
        return str(found)

    def names(self) -> set[str]:
        """Return the names of the active playbooks, from the API."""
        return {item["name"] for item in self.get("/api/v1/playbooks")}

    def status(self) -> dict[str, Any]:
        """Return the output of ``remediator status``."""
        found: dict[str, Any] = json.loads(
            commands.remediator("status", "--config", str(self.config), "--format", "json").stdout
        )
        return found


def observing(name: str, alertname: str) -> dict[str, Any]:
    """Return a playbook that only observes."""
    return copy.deepcopy(PLAYBOOK) | {"name": name, "match": {"alertname": alertname}, "mode": "observe"}


@pytest.fixture
def chat() -> Iterator[Receiver]:
    """Receive the messages of the chat."""
    with receiver() as made:
        yield made


@pytest.fixture
def service(tmp_path: Path, chat: Receiver) -> Iterator[Reloaded]:
    """Start the service."""
    made = Reloaded(tmp_path / "remediator", chat)
    try:
        made.start()
        yield made
    finally:
        made.stop()


def test_a_new_playbook_is_active_without_a_restart(service: Reloaded) -> None:
    """A new file is loaded and audited, and its playbook receives alerts."""
    service.save(observing("app-down", "AppDown"))

    until(lambda: "app-down" in service.names(), "the new playbook is in force")

    assert service.post(service.notification("firing", alertname="AppDown"))[0] == 200
    until(lambda: any(run["playbook"] == "app-down" for run in service.runs()), "it takes its alert")
    assert service.audit_has("changed")


def test_an_invalid_file_is_reported_and_changes_nothing(service: Reloaded, chat: Receiver) -> None:
    """With one invalid file, no change is used; metric, log, console, status, chat and audit log have its line."""
    good = service.save(observing("app-down", "AppDown"))
    broken = service.folder / "playbooks" / "redis-down.yaml"
    whole = broken.read_text()
    broken.write_text(whole.replace("target:", "tarket:"))
    line = 1 + [text.startswith("tarket") for text in broken.read_text().splitlines()].index(True)
    place = f"redis-down.yaml:{line}:"

    until(lambda: service.gauge() == "0.0", "the metric says so")

    assert service.names() >= {"redis-down"}
    assert place in service.log
    assert any(place in finding for found in service.status()["not_reloaded"].values() for finding in found)
    assert service.audit_has("config.rejected")
    until(lambda: any(place.encode() in item.body for item in chat.received), "the chat is told")

    broken.write_text(whole)
    until(lambda: service.gauge() == "1.0", "the fixed files are in use again")
    assert good.is_file()
    assert "app-down" in service.names()
    assert service.status()["not_reloaded"] == {}
    until(lambda: any(b"valid again" in item.body for item in chat.received), "the chat is told of the end")


def test_a_mounted_config_map_is_followed(service: Reloaded, tmp_path: Path) -> None:
    """The kubelet replaces the whole folder by a symbolic link, so no file is read twice or in part."""
    mounted = tmp_path / "mounted"
    _publish(mounted, "first", {"own-down": observing("own-down", "OwnDown")})
    service.settings["playbooks"].append(str(mounted))
    service.stop()
    service.start()
    assert service.names() == {"redis-down", "own-down"}

    changed = {"own-down": observing("own-down", "OwnDown"), "own-slow": observing("own-slow", "OwnSlow")}
    _publish(mounted, "second", changed)

    until(lambda: service.names() == {"redis-down", "own-down", "own-slow"}, "the new playbook is in force")


def _publish(mounted: Path, version: str, playbooks: dict[str, Any]) -> None:
    """Replace the contents of a volume as the kubelet does for a ConfigMap."""
    folder = mounted / f"..{version}"
    folder.mkdir(parents=True)
    for name, playbook in playbooks.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(playbook))
    draft = mounted / "..data_tmp"
    draft.symlink_to(folder.name)
    draft.replace(mounted / "..data")
    for name in playbooks:
        link = mounted / f"{name}.yaml"
        if not link.is_symlink():
            link.symlink_to(f"..data/{name}.yaml")


def test_sighup_reloads_and_records_it(service: Reloaded) -> None:
    """SIGHUP writes an audit entry even without a change, and does not end the process."""
    os.kill(service.pid, signal.SIGHUP)

    until(lambda: service.audit_has("asked"), "the audit log has it")
    assert service.get("/readyz")["ready"]


def test_a_run_keeps_its_playbook_version(service: Reloaded) -> None:
    """An open run continues with its first playbook version; the next run uses the new version."""
    service.save(observing("redis-down", "RedisDown") | {"mode": "approve"})
    until(lambda: service.log.count("playbooks reloaded") == 1, "it is in force")
    assert service.post(service.notification("firing", alertname="RedisDown"))[0] == 200
    until(lambda: bool(service.runs()), "a run begins")
    first = service.version_of_the_run()

    service.save(observing("redis-down", "RedisDown") | {"summary": "another one"})
    until(lambda: service.log.count("playbooks reloaded") == 2, "the change is in force")

    assert service.version_of_the_run() == first
    current = next(item for item in service.get("/api/v1/playbooks") if item["name"] == "redis-down")
    assert current["version"] != first


async def test_unchanged_playbooks_are_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """People and credentials are read once more after the start; the playbooks are read only after a change."""
    async with web_service(tmp_path) as web:
        settings, read, done = web.service.reload, web.service.reload.read, list[str]()
        settings.seen = Signatures(settings.signatures().sources)  # as at the start

        def note() -> LoadedConfig:
            done.append("playbooks")
            return read()

        monkeypatch.setattr(settings, "read", note)
        (tmp_path / "people.yaml").write_text((tmp_path / "people.yaml").read_text() + "\n# changed\n")
        await reload(settings, settings.signatures(), requested=False)
        assert done == []

        (tmp_path / "inventory.yaml").write_text((tmp_path / "inventory.yaml").read_text() + "\n# changed\n")
        await reload(settings, settings.signatures(), requested=False)
        assert done == ["playbooks"]

        await reload(settings, settings.signatures(), requested=True)
        assert done == ["playbooks", "playbooks"]
