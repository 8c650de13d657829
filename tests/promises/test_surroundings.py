"""A real service works in a difficult environment: a log that cannot be written, a read-only root, a blocked inbox."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest

from remediator.runtime.health import STALL
from remediator.storage.advisory_locks import LOCK_INGEST
from tests.promises.conftest import MakeInstallation
from tests.support.replicas import CrashingRemediator
from tests.support.servers import require, until

pytestmark = [pytest.mark.promise(14), pytest.mark.long]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Return a separate file system of 256 KiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ("mount", "-t", "tmpfs", "-o", "size=256k", "remediator-test", str(folder)), capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("only root can mount a small file system")
    yield folder
    subprocess.run(("umount", "-l", str(folder)), check=True, capture_output=True)


def fill(descriptor: int) -> None:
    """Write until a disk or a pipe is full."""
    with suppress(OSError):
        while True:
            os.write(descriptor, b"x" * 4096)
    with suppress(OSError):
        while True:
            os.write(descriptor, b"x")


def degraded(replica: CrashingRemediator) -> list[str]:
    """Return the problems that the health endpoint names, none if the service is healthy."""
    try:
        found = replica.get("/healthz")
    except urllib.error.HTTPError as error:
        found = json.load(error)
    names: list[str] = found["degraded"]
    return names


def heals(replica: CrashingRemediator, target: str = "target-0") -> None:
    """Send an alert, and wait until its run succeeds."""
    status, _ = replica.post(replica.notification("firing", alertname="TargetDown", service=target))
    assert status == 200
    replica.wait_for("succeeded")


def status_of(replica: CrashingRemediator) -> str:
    """Return what ``remediator status`` prints."""
    argv = [sys.executable, "-m", "remediator", "status", "--config", str(replica.config)]
    return subprocess.run(argv, env=dict(replica.environment()), capture_output=True, text=True, check=False).stdout


def test_it_heals_with_its_log_on_a_full_disk_and_reports_lost_lines(
    make_installation: MakeInstallation, small_disk: Path
) -> None:
    """With the log on a full disk, the service restarts targets. Status, doctor and metrics report the lost lines."""
    installation = make_installation(targets=2)
    replica = installation.replica()
    replica.log_file = small_disk / "log"
    replica.start()
    ballast = small_disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        fill(file.fileno())
    with replica.log_file.open("ab", buffering=0) as file:
        fill(file.fileno())  # fills the last page of the log, which already exists
    heals(replica)
    assert installation.starts("target-0") == 2
    assert "log" in degraded(replica)
    until(lambda: "No space left on device" in status_of(replica), "status shows the loss")
    assert "No space left on device" in replica.command_line("doctor").stdout
    lost = next(
        line
        for line in replica.metrics().splitlines()
        if line.startswith('remediator_observer_losses_total{observer="log"}')
    )
    assert float(lost.split()[1]) > 0
    ballast.unlink()
    assert replica.tell("target-1")
    until(lambda: "lines of the log could not be written and are lost" in replica.log, "the log says what was lost")


@pytest.mark.parametrize("reader", ["hangs", "has ended"])
def test_it_heals_if_the_reader_of_its_log(make_installation: MakeInstallation, tmp_path: Path, reader: str) -> None:
    """If the reader of its log hangs or ends, as with ``remediator serve 2>&1 | head``, the service still works."""
    installation = make_installation()
    replica = installation.replica()
    replica.log_file = tmp_path / "pipe"
    os.mkfifo(replica.log_file)
    descriptor = os.open(replica.log_file, os.O_RDWR | os.O_NONBLOCK)
    replica.start()
    if reader == "hangs":
        fill(descriptor)
    else:
        os.close(descriptor)
    heals(replica)
    assert installation.starts("target-0") == 2
    if reader == "has ended":
        assert "log" in degraded(replica)
    else:
        os.close(descriptor)


class ReadOnlyRoot(CrashingRemediator):
    """A remediator that can write only to its state folder. There is no folder for temporary files."""

    def command(self) -> list[str]:
        inner = super().command()
        state = self.folder / "state"
        state.mkdir(exist_ok=True)
        script = (
            'mount --make-rprivate / && mount --bind "$1" "$1" && '
            "for place in /tmp /var/tmp /usr/tmp /dev/shm /; do "
            '  if mountpoint -q "$place"; then mount -o remount,ro,bind "$place" || exit 1; fi; '
            "done && shift && cd / && "
            "for place in /tmp /var/tmp /; do ! touch $place/probe 2>/dev/null || exit 1; done && "
            'exec "$@"'
        )
        return [require("unshare"), "--mount", "sh", "-c", script, "sh", str(state), *inner]


def test_it_heals_on_a_read_only_root_without_a_temporary_folder(make_installation: MakeInstallation) -> None:
    """The service processes notifications although SQLite has no folder for temporary data."""
    if os.geteuid() != 0:
        pytest.skip("only root can make a mount namespace")
    installation = make_installation()
    replica = installation.replica()
    replica.__class__ = ReadOnlyRoot
    replica.start()
    heals(replica)
    # sorting many alerts of one notification needs temporary space
    labels = [{"alertname": "Other", "number": str(number), "text": "x" * 500} for number in range(3000)]
    assert replica.post(replica.notification_of(labels))[0] == 200
    until(lambda: "remediator_waiting_notifications 0.0" in replica.metrics(), "the inbox is empty")
    assert not degraded(replica)


def test_a_blocked_inbox_refuses_notifications_within_the_documented_time(
    make_installation: MakeInstallation, postgres_url: str
) -> None:
    """If another replica hangs while it holds the lock of the inbox, notifications get a 503.

    Otherwise acknowledged alerts would wait forever.
    """
    installation = make_installation(store=postgres_url)
    replica = installation.replica()
    replica.start()

    def answer() -> tuple[int, Any]:
        return replica.post(replica.notification("firing", alertname="TargetDown", service="target-0"))

    with closing(psycopg.connect(postgres_url, autocommit=True)) as other:
        other.execute(f"SELECT pg_advisory_lock({LOCK_INGEST})")
        assert answer()[0] == 200
        until(lambda: answer()[0] == 503, "the webhook refuses", STALL + 15)
        assert "not been processed" in answer()[1]["error"]
        assert not replica.ready()
        assert "intake" in degraded(replica)
        assert "remediator_intake_ready 0.0" in replica.metrics()
    until(lambda: answer()[0] == 200, "the webhook accepts again")
    replica.wait_for("succeeded")
    assert installation.starts("target-0") == 2
