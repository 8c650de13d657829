"""A real service survives a clock that is set, or a lack of threads, memory or descriptors, and then fixes faults."""

from __future__ import annotations

import os
import resource
import shutil
import struct
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest

from tests.promises.conftest import MakeInstallation
from tests.promises.test_surroundings import degraded
from tests.support.replicas import CrashingRemediator, Installation
from tests.support.servers import require, until

pytestmark = [pytest.mark.promise(14), pytest.mark.long]
SHIM = Path(__file__).parents[1] / "support" / "clock_step.c"
HALF_AN_HOUR = 1800


class SteppedClock(CrashingRemediator):
    """A remediator for which the test sets the clock of the host."""

    def command(self) -> list[str]:
        self.set_clock(0) if not self.offset_file.exists() else None
        library = self.folder / "clock_step.so"
        if not library.exists():
            argv = [require("gcc", "cc"), "-shared", "-fPIC", "-O1", "-o", str(library), str(SHIM), "-ldl"]
            subprocess.run(argv, check=True)
        return super().command()

    def environment(self) -> Mapping[str, str]:
        preloaded = {"LD_PRELOAD": str(self.folder / "clock_step.so"), "CLOCK_STEP": str(self.offset_file)}
        return {**super().environment(), **preloaded}

    @property
    def offset_file(self) -> Path:
        """Return the file in which the preloaded library finds the offset of the clock in seconds."""
        return self.folder / "clock_step"

    def set_clock(self, seconds: int) -> None:
        """Set the clock to this offset from the true time."""
        descriptor = os.open(self.offset_file, os.O_WRONLY | os.O_CREAT)
        os.pwrite(descriptor, struct.pack("l", seconds), 0)
        os.close(descriptor)


def installation_with_clock(
    make_installation: MakeInstallation, store: str, **arguments: int
) -> tuple[Installation, SteppedClock]:
    """Return an installation, and a replica that was started with the true time."""
    installation = make_installation(store=store, **arguments)
    replica = installation.replica()
    replica.__class__ = SteppedClock
    assert isinstance(replica, SteppedClock)
    replica.start()
    return installation, replica


@pytest.mark.parametrize("step", [HALF_AN_HOUR, -HALF_AN_HOUR])
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_step_of_the_clock_repeats_nothing_and_stops_nothing(
    make_installation: MakeInstallation, request: pytest.FixtureRequest, kind: str, step: int
) -> None:
    """If the clock is set during a restart of six seconds, and again later, every target is restarted once."""
    store = "sqlite" if kind == "sqlite" else request.getfixturevalue("postgres_url")
    installation, replica = installation_with_clock(make_installation, store, targets=3, stubborn=0)
    assert replica.tell("target-0")
    until(lambda: any(run["status"] == "running" for run in replica.runs()), "the restart has begun")
    replica.set_clock(step)
    until(lambda: [run["status"] for run in replica.runs()] == ["succeeded"], "the first is healed")
    assert replica.tell("target-1")
    until(lambda: len([run for run in replica.runs() if run["status"] == "succeeded"]) == 2, "the second is healed")
    if kind == "sqlite" and step < 0:
        until(lambda: "clock of this host" in degraded(replica), "it reports that the clock was set back")
    replica.set_clock(0)
    assert replica.tell("target-2")
    until(lambda: len([run for run in replica.runs() if run["status"] == "succeeded"]) == 3, "the third is healed")
    assert [installation.starts(target) for target in installation.targets] == [2, 2, 2]
    if kind == "sqlite":
        replica.set_clock(max(step, 0))  # with the true time, entries of the future would be a finding
        replica.verified()


def test_a_start_after_a_clock_step_back_continues_from_the_last_entry(make_installation: MakeInstallation) -> None:
    """After the clock was set back, work that seems due in half an hour is done without a wait."""
    installation, replica = installation_with_clock(make_installation, "sqlite", targets=2)
    replica.set_clock(HALF_AN_HOUR)
    until(lambda: bool(replica.tell("target-0")), "accepted")
    replica.wait_for("succeeded")
    replica.stop()
    replica.set_clock(0)
    replica.start()
    assert replica.tell("target-1")
    until(lambda: [run["status"] for run in replica.runs()] == ["succeeded"] * 2, "the second is healed")
    assert [installation.starts(target) for target in installation.targets] == [2, 2]
    until(lambda: "clock of this host" in degraded(replica), "it reports that the clock was set back")
    replica.set_clock(HALF_AN_HOUR)
    replica.verified()


def limited(replica: CrashingRemediator, what: str, limit: int, *user: str) -> Callable[[], None]:
    """Set a limit of the running process, as ``prlimit`` names it, and return a function that removes the limit.

    With ``user``, the command that runs another command as the user of the process, the limit of another user's process
    is set.
    """

    def set_limit(value: str) -> None:
        subprocess.run([*user, require("prlimit"), f"--pid={replica.pid}", f"--{what}={value}:"], check=True)

    set_limit(str(limit))
    _, most = resource.getrlimit(getattr(resource, f"RLIMIT_{what.upper()}"))  # inherited by the process
    return lambda: set_limit("unlimited" if most == resource.RLIM_INFINITY else str(most))


def answer(replica: CrashingRemediator, body: bytes) -> int:
    """Send a notification once. Return the status, or 0 without an answer or a connection."""
    try:
        return replica.post(body)[0]
    except (URLError, OSError, ValueError):
        return 0


def press(replica: CrashingRemediator, bodies: list[bytes], seconds: float = 15) -> None:
    """Send notifications for some seconds. The process must survive and answer 200 or 5xx, so that senders retry."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for body in bodies:
            status = answer(replica, body)
            assert status in (0, 200) or status >= 500, status
            assert not replica.ended, replica.log[-3000:]
        time.sleep(0.2)
    assert len(replica.log) < 500_000, "an error that repeats fills the disk"


def heals_after(installation: Installation, replica: CrashingRemediator) -> None:
    """Without the limit, every target is restarted exactly once, and the service works again."""
    for target in installation.targets:
        until(lambda target=target: replica.tell(target), "acknowledged", 60)  # type: ignore[misc]
    wanted = dict.fromkeys(installation.targets, 2)
    until(
        lambda: {target: installation.starts(target) for target in installation.targets} == wanted,
        "each is restarted once",
    )
    until(lambda: all(run["status"] == "succeeded" for run in replica.runs()), "each run succeeds")
    assert {target: installation.starts(target) for target in installation.targets} == wanted
    until(lambda: not [name for name in degraded(replica) if name.startswith(("loop", "intake"))], "it works")
    assert replica.ready()
    replica.verified()


def test_it_survives_without_a_free_descriptor(make_installation: MakeInstallation) -> None:
    """Without a free descriptor, no log file, target or client can be opened, and the service survives."""
    installation = make_installation(targets=4)
    replica = installation.replica()
    replica.start()
    release = limited(replica, "nofile", len(os.listdir(f"/proc/{replica.pid}/fd")))
    press(
        replica,
        [replica.notification("firing", alertname="TargetDown", service=name) for name in installation.targets[:2]],
    )
    release()
    heals_after(installation, replica)


@pytest.mark.parametrize("pace", [0.0, 0.2], ids=["endless", "slow"])
def test_an_endless_answer_delays_no_other_target(make_installation: MakeInstallation, pace: float) -> None:
    """A check with an endless answer is unknown, so its run does not succeed. Its service is restarted once."""

    class Endless(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            with suppress(OSError):
                while True:
                    self.wfile.write(b"x" * (1 if pace else 65_536))
                    time.sleep(pace)

        def log_message(self, format: str, *args: Any) -> None:
            """Write nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Endless)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    installation = make_installation(targets=3)
    replica = installation.replica()
    replica.inventory["services"]["target-0"]["http"]["url"] = f"http://127.0.0.1:{server.server_port}"
    replica.start()
    memory = replica.memory()
    for target in installation.targets:
        assert replica.tell(target)

    def statuses() -> dict[str, str]:
        return {run["target"]: run["status"] for run in replica.runs()}

    until(lambda: {statuses()[name] for name in installation.targets[1:]} == {"succeeded"}, "the others are healed")
    until(lambda: statuses()["target-0"] in ("failed", "escalated", "succeeded"), "its run ends")
    assert [installation.starts(target) for target in installation.targets] == [2, 2, 2]
    assert replica.memory() - memory < 64 * 1024 * 1024
    server.shutdown()
    server.server_close()


class Unprivileged(CrashingRemediator):
    """A remediator that runs as a separate user, so that its threads can be limited. Its user can reach its folder."""

    uid = 300_000 + os.getpid() % 100_000

    def command(self) -> list[str]:
        inner = super().command()
        shutil.chown(self.folder, self.uid)
        return [*self.as_user(), *inner]

    def as_user(self) -> tuple[str, ...]:
        """Return the command that runs another command as this user, with the right to read all files."""
        reads = ("--inh-caps=+dac_override", "--ambient-caps=+dac_override")
        return (require("setpriv"), f"--reuid={self.uid}", "--clear-groups", "--regid=0", *reads)


@pytest.fixture
def reachable_folder() -> Iterator[Path]:
    """Return a folder that every user can reach."""
    with tempfile.TemporaryDirectory(prefix="remediator-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def test_it_survives_without_a_free_thread(make_installation: MakeInstallation, reachable_folder: Path) -> None:
    """If no thread or process can be started, the service survives, and then fixes all targets."""
    if os.geteuid() != 0:
        pytest.skip("only root can start a process of another user")
    installation = make_installation(targets=4)
    replica = installation.replica()
    replica.__class__ = Unprivileged
    assert isinstance(replica, Unprivileged)
    replica.folder = reachable_folder
    replica.start()
    release = limited(replica, "nproc", 1, *replica.as_user())
    press(
        replica,
        [replica.notification("firing", alertname="TargetDown", service=name) for name in installation.targets[:2]],
    )
    release()
    heals_after(installation, replica)


def test_it_survives_without_memory(make_installation: MakeInstallation) -> None:
    """With 24 MiB of address space left and notifications of megabytes, the service survives."""
    installation = make_installation(targets=4)
    replica = installation.replica()
    replica.start()
    used = int(Path(f"/proc/{replica.pid}/statm").read_text().split()[0]) * resource.getpagesize()
    release = limited(replica, "as", used + 24 * 1024 * 1024)
    large = [{"alertname": "Other", "number": str(number), "text": "x" * 20_000} for number in range(300)]
    firing = [replica.notification("firing", alertname="TargetDown", service=name) for name in installation.targets[:2]]
    press(replica, [replica.notification_of(large), *firing])
    release()
    heals_after(installation, replica)
    assert "MemoryError" in replica.log, "the limit was never met"
    assert "alert dead-lettered" not in replica.log, "an acknowledged alert was given up for want of memory"
