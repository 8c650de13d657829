"""Every acknowledged notification is on disk: strace watches and fails the system calls of a real service."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from demo import proc
from tests.promises.conftest import MakeInstallation
from tests.support.replicas import CrashingRemediator
from tests.support.servers import DEADLINE, until

pytestmark = [pytest.mark.long, pytest.mark.promise(1)]


@contextmanager
def strace(pid: int, log: Path, *options: str) -> Iterator[None]:
    """Attach strace to all threads of a process."""
    program = shutil.which("strace")
    if program is None:
        pytest.skip("needs strace")
    argv = [program, "-f", "-q", "-p", str(pid), "-o", str(log), *options]
    with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True) as watching:
        try:
            until(lambda: traced(pid) or watching.poll() is not None, "strace is attached")
            if watching.poll() is not None:
                assert watching.stderr is not None
                pytest.skip(f"strace may not attach here: {watching.stderr.read().strip()}")
            yield
        finally:
            watching.send_signal(signal.SIGINT)
            watching.wait(DEADLINE)


def traced(pid: int) -> bool:
    """Return whether every thread is traced."""
    found = proc.of_threads(pid, "status")
    return bool(found) and all("TracerPid:\t0" not in text for text in found)


def posted(replica: CrashingRemediator, number: int) -> int:
    """Send a new notification and return the answer."""
    return int(replica.post(replica.notification("firing", alertname="Other", n=str(number)))[0])


def test_the_answer_comes_after_the_sync(make_installation: MakeInstallation, tmp_path: Path) -> None:
    """Between a request and its 200, the service writes and syncs the write-ahead log."""
    replica = make_installation().replica()
    replica.start()
    log = tmp_path / "calls"
    with strace(replica.pid, log, "-e", "trace=fdatasync,fsync,sendto,sendmsg,write,pwrite64", "-s", "40"):
        assert [posted(replica, number) for number in range(5)] == [200] * 5
    lines = log.read_text().splitlines()
    answers = [place for place, line in enumerate(lines) if "HTTP/1.1 200" in line]
    assert len(answers) >= 5
    before = [-1, *answers]
    for start, end in zip(before, answers, strict=False):
        window = lines[start + 1 : end]
        synced = [line for line in window if ("fdatasync" in line or "fsync" in line) and "= 0" in line]
        assert synced or any("fdatasync resumed" in line for line in window), "answered without a sync"


def test_a_disk_that_cannot_sync_is_a_503_and_never_a_lost_200(
    make_installation: MakeInstallation, tmp_path: Path
) -> None:
    """While every sync fails with EIO, nothing is acknowledged. When syncs work again, so does the service."""
    replica = make_installation().replica()
    replica.start()
    assert posted(replica, 0) == 200
    broken = ("-e", "trace=fdatasync,fsync", "-e", "inject=fdatasync,fsync:error=EIO")
    with strace(replica.pid, tmp_path / "calls", *broken):
        assert [posted(replica, number) for number in range(1, 6)] == [503] * 5
    until(lambda: posted(replica, 6) == 200, "it writes again")
    replica.kill()
    replica.start()
    acknowledged = [replica.notification("firing", alertname="Other", n=str(number)) for number in (0, 6)]
    assert set(replica.inbox()) >= set(acknowledged)
