"""Measure memory and CPU at rest, and the times to start: ``python -m bench.footprint [--json]``

The times are those until the service is ready, and of the command line itself. Goal: RSS at most 80 MB, idle CPU at
most 1 %, ready within 0.8 s, ``--help`` within 100 ms.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from bench.ingest import empty_service
from bench.measure import server
from demo import proc

_SETTLE = 3.0
"""Seconds after the start that are not idle: the service examines rights and reachability, and each loop runs once."""
_IDLE = 6.0
"""Seconds for which processor time and wake-ups are counted."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as compiled:
        # as installed: pip, the container image and the Debian package compile all modules
        os.environ["PYTHONPYCACHEPREFIX"] = compiled
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        result = {**_command_line(asked.rounds), **_service(asked.rounds)}
    print(
        json.dumps(result, indent=2) if asked.json else "\n".join(f"{key:28} {value}" for key, value in result.items())
    )


def _command_line(rounds: int) -> dict[str, Any]:
    bare, help_ = [], []
    for _ in range(rounds + 1):
        bare.append(_timed([sys.executable, "-c", "pass"]))
        help_.append(_timed([sys.executable, "-m", "remediator", "--help"]))
    return {
        "help_ms": round(median(help_[1:]) * 1000),
        "help_to_bare_python": round(median([a / b for a, b in zip(help_[1:], bare[1:], strict=True)]), 1),
    }


def _timed(argv: list[str]) -> float:
    begun = time.perf_counter()
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begun


def _service(rounds: int) -> dict[str, Any]:
    ready, memory, idle, wakeups = [], [], [], []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory(dir=Path.cwd()) as name:
            folder = Path(name)
            argv, url = empty_service(folder)
            with server(argv, f"{url}/readyz", folder):
                pass  # the first start creates the schema
            begun = time.perf_counter()
            with server(argv, f"{url}/readyz", folder) as process:
                ready.append(time.perf_counter() - begun)
                time.sleep(_SETTLE)
                before, woken = _cpu(process.pid), _wakeups(process.pid)
                time.sleep(_IDLE)
                spent = (_cpu(process.pid) - before) / _IDLE
                wakeups.append((_wakeups(process.pid) - woken) / _IDLE)
                memory.append(_rss(process.pid))
            idle.append(spent)
    return {
        "ready_s": round(median(ready), 2),
        "rss_mb": round(median(memory), 1),
        "idle_cpu_percent": round(median(idle) * 100, 2),
        "idle_wakeups_per_s": round(median(wakeups)),
    }


def _rss(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def _wakeups(pid: int) -> int:
    """Return how often the threads of a process have waited so far."""
    lines = (line for text in proc.of_threads(pid, "status") for line in text.splitlines())
    return sum(int(line.split()[1]) for line in lines if line.startswith("voluntary_ctxt_switches:"))


def _cpu(pid: int) -> float:
    """Return the seconds of processor time of all threads of a process. ``/proc/PID/stat`` counts only whole ticks."""
    return sum(int(text.split()[0]) for text in proc.of_threads(pid, "schedstat") if text) / 1e9


if __name__ == "__main__":
    main()
