"""The agent of a volume, as a separate process, performs the actions on files and nothing else."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from remediator.core.clock import SystemClock
from remediator.core.outcome import Outcome
from remediator.errors import Refused, TargetError, Unreachable
from remediator.extensions import bindings
from remediator.extensions.actions.base import Action, EffectStatus
from remediator.extensions.checks.base import CheckAnswer
from remediator.extensions.checks.disk_usage import DiskUsage, DiskUsageParameters
from remediator.extensions.clientset import ClientSet
from remediator.extensions.registry import Registry
from remediator.playbooks.inventory import Service
from tests.support.action_runner import do, observe, plan, service, undo
from tests.support.servers import free_port, until
from tests.support.servers.redis import Redis
from tests.support.servers.remediator import ROOT

ACTIONS: dict[str, Action] = Registry().make_actions(ClientSet())
PRUNE, DISK_USE = ACTIONS["files.prune"], ACTIONS["files.disk_use"]
TOKEN = "a-token-of-the-tests"
DAY = 86_400


@dataclass
class Volume:
    """Folders as in the pod of Redis, an agent for them, and the token file of the remediator."""

    folder: Path
    quarantine: Path
    port: int

    @property
    def backups(self) -> Path:
        return self.folder / "data/backups"

    def service(self, **backups: Any) -> Service:
        """Return the service as the inventory describes it."""
        agent = {"url": f"http://127.0.0.1:{self.port}", "token_file": str(self.folder / "remediator.token")}
        disk = {"claim": "redis", "path": str(self.folder / "data"), "agent": agent, "full_percent": 99}
        where = {"path": str(self.backups), "quarantine": str(self.quarantine), "keep": 2, **backups}
        return service("redis", disk=disk, backups=where)

    def post(self, operation: str, body: bytes, token: str = TOKEN) -> tuple[int, str]:
        """Send a request to the agent, and return status and text of its answer."""
        headers = {"Authorization": f"Bearer {token}"}
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/v1/{operation}", body, headers)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/healthz", timeout=5) as answer:
                return answer.status == 200
        except OSError:
            return False


@pytest.fixture
def volume(tmp_path: Path, redis_server: Redis) -> Iterator[Volume]:
    """Return a volume with five daily backups, a large append-only file, and a quarantine on another filesystem."""
    redis_server.ask("SET", "key", "x" * 1000)
    redis_server.ask("SAVE")
    backups = tmp_path / "data/backups"
    backups.mkdir(parents=True)
    for age in range(5):
        path = backups / f"day-{age}.rdb"
        shutil.copy(redis_server.folder / "dump.rdb", path)
        os.utime(path, (time.time() - DAY * age,) * 2)
    (tmp_path / "data/appendonly.aof").write_bytes(b"x" * 100)
    for name in ("agent.token", "remediator.token"):
        (tmp_path / name).write_text(f"{TOKEN}\n")
        (tmp_path / name).chmod(0o600)
    with tempfile.TemporaryDirectory(dir="/dev/shm") as elsewhere:
        found = Volume(tmp_path, Path(elsewhere) / "quarantine", free_port())
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "DATA": str(tmp_path / "data"),
            "BACKUPS": str(backups),
            "QUARANTINE": str(found.quarantine),
            "TOKEN_FILE": str(tmp_path / "agent.token"),
            "LISTEN": f"127.0.0.1:{found.port}",
        }
        argv = [sys.executable, "-m", "remediator.clients.volume.agent"]
        with subprocess.Popen(argv, env=environment, cwd=ROOT) as agent:
            try:
                until(found.ready, "the agent serves")
                yield found
            finally:
                agent.terminate()


async def test_old_backups_are_quarantined_and_restored(volume: Volume) -> None:
    """The agent moves old backups to quarantine, which frees space at once, and undo moves all of them back."""
    target = volume.service()
    call = await plan(PRUNE, target)
    assert "move 3 of 5 backups" in call.text and str(volume.quarantine) in call.text
    result = await do(PRUNE, target, call=call)
    assert result.outcome is Outcome.OK and result.output["freed"] > 0, result
    assert sorted(result.output["moved"]) == ["day-2.rdb", "day-3.rdb", "day-4.rdb"]
    assert sorted(path.name for path in volume.backups.iterdir()) == ["day-0.rdb", "day-1.rdb"]
    assert (await observe(PRUNE, target, call)).happened is EffectStatus.YES
    await undo(PRUNE, ACTIONS, target, call, result)
    assert len(list(volume.backups.iterdir())) == 5


async def test_a_file_that_changed_since_the_plan_stays(volume: Volume) -> None:
    """The agent compares each file with the plan, and does not move a changed file."""
    target = volume.service()
    call = await plan(PRUNE, target)
    (volume.backups / "day-4.rdb").write_bytes(b"other")
    with pytest.raises(TargetError, match=r"day-4\.rdb"):
        await do(PRUNE, target, call=call)
    assert (volume.backups / "day-4.rdb").read_bytes() == b"other"


async def test_a_file_with_other_content_and_the_same_time_stays(volume: Volume) -> None:
    """The agent also compares the content, which it read during planning."""
    target = volume.service()
    call = await plan(PRUNE, target)
    oldest = volume.backups / "day-4.rdb"
    seen = oldest.stat()
    oldest.write_bytes(b"x" * seen.st_size)
    os.utime(oldest, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    with pytest.raises(TargetError, match=r"day-4\.rdb was changed after planning"):
        await do(PRUNE, target, call=call)
    assert oldest.exists()


async def test_an_expired_batch_is_deleted_only_as_it_was_approved(volume: Volume) -> None:
    """The plan has a checksum of the batch's list. A batch whose list has changed is not deleted."""

    class Later(SystemClock):
        def now(self) -> Any:
            return super().now() + timedelta(days=2)

    await do(PRUNE, volume.service())
    later = Registry().make_actions(ClientSet(clock=Later()))["files.prune"]
    call = await plan(later, volume.service(grace="1d"))
    (batch,) = call.arguments["expired"]
    (note,) = volume.quarantine.glob("*.json")
    approved = note.read_bytes()
    note.write_bytes(approved.replace(b"day-4.rdb", b"day-9.rdb"))
    with pytest.raises(TargetError, match=f"batch {batch} in .* was changed after planning"):
        await do(later, volume.service(grace="1d"), call=call)
    note.write_bytes(approved)
    assert len(list(volume.quarantine.glob("*.rdb"))) == 3
    await do(later, volume.service(grace="1d"), call=call)
    assert list(volume.quarantine.iterdir()) == []


async def test_without_a_complete_backup_nothing_moves(volume: Volume) -> None:
    """The agent checks the newest backups on the volume, and moves nothing without a complete one."""
    for path in volume.backups.iterdir():
        path.write_bytes(b"REDIS0000")
    with pytest.raises(TargetError, match="none of the newest backups"):
        await plan(PRUNE, volume.service())


async def test_usage_and_sizes_are_read(volume: Volume) -> None:
    """The agent names what fills the volume, and the check needs no metrics of the kubelet."""
    target = volume.service()
    found = await do(DISK_USE, target)
    assert found.output["culprit"] == "backups" and found.output["kinds"]["aof"] > 0
    evidence = await DiskUsage(ClientSet()).observe(target, DiskUsageParameters())
    assert evidence.answer is CheckAnswer.OK, evidence


async def test_other_folders_are_denied(volume: Volume) -> None:
    """Neither inventory nor token holder can choose another folder. The answer names both folders."""
    other = volume.folder / "other"
    other.mkdir()
    (other / "secret.rdb").write_text("x")
    with pytest.raises(Refused, match=r"the inventory has .*other.*make both the same"):
        await bindings.volume(volume.service(path=str(other))).backups()
    for pattern in ("*", "*.aof"):
        with pytest.raises(Refused, match="make both the same"):
            await bindings.volume(volume.service(pattern=pattern)).backups()


async def test_names_cannot_leave_the_folder(volume: Volume) -> None:
    """A hostile file name is an error of the target. Its file is neither read nor moved."""
    secret = volume.folder / "data/secret.rdb"
    secret.write_text("x")
    client = bindings.volume(volume.service())
    with pytest.raises(TargetError, match="not a single file name"):
        await client.backup_problem("../secret.rdb")
    seen = (await client.backups())[0]
    call = await plan(PRUNE, volume.service())
    call.arguments["files"][0]["name"] = "../secret.rdb"
    with pytest.raises(TargetError, match="not a single file name"):
        await do(PRUNE, volume.service(), call=call)
    assert secret.read_text() == "x" and (volume.backups / seen.name).exists()


@pytest.mark.parametrize("token", ["", "wrong", TOKEN + "x", "ä"])
def test_a_wrong_token_is_refused(volume: Volume, token: str) -> None:
    """The agent refuses a wrong token before it reads the body."""
    assert volume.post("backups", b"not JSON", token)[0] == 401


async def test_a_new_token_counts_at_once(volume: Volume) -> None:
    """A changed Secret takes effect without a restart. An empty Secret gives no access."""
    (volume.folder / "agent.token").write_text("another-token-of-the-tests")
    assert volume.post("backups", b"{}")[0] == 401
    assert volume.post("backups", b"{}", "another-token-of-the-tests")[0] == 400
    (volume.folder / "agent.token").write_text("")
    assert volume.post("backups", b"{}", "")[0] == 401


def test_a_token_file_that_cannot_be_read_is_an_error_of_one_sentence(volume: Volume) -> None:
    """A missing token file, or a pipe, which would block the agent, gives a 503 with one sentence."""
    token = volume.folder / "agent.token"
    token.unlink()
    status, text = volume.post("backups", b"{}")
    assert status == 503 and text == (
        f"cannot read the token file '{token}': No such file or directory; restore it, then repeat the request"
    )
    os.mkfifo(token)
    assert volume.post("backups", b"{}")[0] == 503
    token.unlink()
    token.write_text(TOKEN)
    assert volume.post("backups", b"{}")[0] == 400


@pytest.mark.parametrize(
    ("operation", "body", "status"),
    [
        ("backups", b"", 400),
        ("backups", b"[" * 100_000, 400),
        ("backups", b'{"folders": {"data": "/etc"}, "more": 1}', 400),
        ("backups", json.dumps({"folders": {"data": "/etc"}}).encode(), 403),
        ("backups", b"x" * (4 * 1024 * 1024 + 1), 413),
        ("read", b"{}", 404),
    ],
)
def test_an_invalid_request_is_an_error(volume: Volume, operation: str, body: bytes, status: int) -> None:
    """An invalid request gets a 4xx, never a 5xx, and the agent continues to serve."""
    assert volume.post(operation, body)[0] == status
    assert volume.ready()


async def test_a_missing_agent_was_not_called(volume: Volume) -> None:
    """If the agent is gone, the call did not happen and can be repeated. Without an answer it is unknown."""
    volume.port = free_port()
    with pytest.raises(Unreachable):
        await bindings.volume(volume.service()).delete("20260101T000000", "0" * 64)


@pytest.mark.parametrize("variable", ["DATA", "BACKUPS", "QUARANTINE", "TOKEN_FILE"])
def test_a_missing_setting_is_named(variable: str, tmp_path: Path) -> None:
    """The error about a missing setting is one sentence with an example, without a traceback."""
    known = dict.fromkeys(("DATA", "BACKUPS", "QUARANTINE", "TOKEN_FILE"), "/data")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **known, variable: "relative"}
    argv = [sys.executable, "-m", "remediator.clients.volume.agent"]
    done = subprocess.run(argv, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1, done.stderr
    assert f"{variable} is 'relative'; set it to an absolute path" in done.stderr
