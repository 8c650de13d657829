"""Shared parts of the benches: start servers, load them with wrk, and compute percentiles."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from demo.stack.programs import find

ROOT = Path(__file__).resolve().parents[1]
TOKEN = "a-token-for-the-bench"
"""Token of the webhook. The start refuses shorter tokens."""
_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}


@dataclass(frozen=True)
class Load:
    """The result of one round of wrk."""

    per_second: float
    p50: float
    """Seconds."""
    p99: float
    """Seconds."""
    p999: float
    """Seconds."""
    failed: int
    """Answers that were not 2xx, and connections that broke."""


def free_port() -> int:
    """Return a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def configure(folder: Path, **more: Any) -> tuple[list[str], str]:
    """Write the settings of a service on a free port, and its token. Return the command that starts it, and its URL.

    Args:
        folder: contains ``playbooks`` and ``inventory.yaml``.
        more: further settings.
    """
    listen = f"127.0.0.1:{free_port()}"
    (folder / "token").write_text(TOKEN)
    settings = {
        "apiVersion": "remediator/v1",
        "kind": "Config",
        "listen": listen,
        "state": "state",
        "playbooks": ["playbooks"],
        "inventory": "inventory.yaml",
        "webhook": {"token_file": "token"},
    }
    (folder / "remediator.yaml").write_text(yaml.safe_dump({**settings, **more}))
    argv = [sys.executable, "-m", "remediator", "serve", "--config", str(folder / "remediator.yaml")]
    return argv, f"http://{listen}"


@contextmanager
def server(argv: Sequence[str], url: str, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server process until the end of the block. It is ready when ``url`` does not refuse a connection."""
    with (folder / "server.log").open("ab") as log:
        process = subprocess.Popen(argv, cwd=ROOT, stdout=log, stderr=log, start_new_session=True)
    try:
        try:
            _wait(process, url)
        except RuntimeError as error:
            raise SystemExit(f"{error}:\n{(folder / 'server.log').read_text()[-2000:]}") from None
        yield process
    finally:
        process.terminate()
        process.wait(30)


def _wait(process: subprocess.Popen[bytes], url: str) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"{process.args!r} ended with {process.returncode}")
        try:
            urllib.request.urlopen(url, timeout=1).close()
            return
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.02)
    raise RuntimeError(f"{url} does not answer")


def wrk(url: str, script: Path, connections: int, seconds: float) -> Load:
    """Load one URL with wrk for this time."""
    program = find("wrk")
    if program is None:
        raise SystemExit("wrk is missing: as root, run 'apt-get install wrk', then try again.")
    argv = [program, "-t1", f"-c{connections}", f"-d{seconds:.0f}s", "--latency", "-s", str(script), url]
    text = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
    failed = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    broken = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text)
    return Load(
        per_second=float(_found(r"Requests/sec:\s+([\d.]+)", text)),
        p50=_time(_found(r"\n\s+50%\s+(\S+)", text)),
        p99=_time(_found(r"\n\s+99%\s+(\S+)", text)),
        p999=float(_found(r"p99\.9 (\d+)", text)) / 1e6,
        failed=int(failed[1] if failed else 0) + (sum(map(int, broken.groups())) if broken else 0),
    )


TELL_P999 = "done = function(summary, latency) io.write(string.format('p99.9 %d\\n', latency:percentile(99.9))) end\n"
"""End of every script for wrk, because wrk itself prints no percentile above the 99th."""


def _found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    if match is None:
        raise RuntimeError(f"wrk said something else:\n{text}")
    return match[1]


def _time(text: str) -> float:
    match = re.fullmatch(r"([\d.]+)(us|ms|s|m)", text)
    assert match is not None, text
    return float(match[1]) * _UNITS[match[2]]


def percentiles_ms(seconds: Sequence[float]) -> dict[str, float]:
    """Return the median, the 99th and the 99.9th percentile in milliseconds. Of few values, the last is the longest."""
    ordered = sorted(seconds)
    return {
        name: round(ordered[min(int(share * len(ordered)), len(ordered) - 1)] * 1000, 2)
        for name, share in (("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999))
    }
