"""Run the benches in sequence, print their results, and write ``bench/RESULTS.md``.

``python -m bench.suite [--short] [NAME…]``
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench import budgets
from bench.measure import ROOT

RESULTS = ROOT / "bench/RESULTS.md"
LIBRARIES = ("starlette", "uvicorn", "sqlalchemy", "pydantic", "msgspec", "httpx")


@dataclass(frozen=True, slots=True)
class Bench:
    """One bench of the suite."""

    name: str
    what: str
    arguments: Sequence[str] = ()
    short: Sequence[str] | None = None
    """Arguments of the short form, or None without a short form."""


SUITE = (
    Bench("engine", "cost of one run: commits, statements, processor time", (), ("--runs", "20")),
    Bench("simulation", "simulated schedules", (), ("--schedules", "20")),
    Bench("match", "matching one alert with 10 and with 10,000 playbooks", (), ()),
    Bench("discovery", "memory, matching and intake with 10 and with 10,000 discovered services", ("--rounds", "40")),
    Bench("ingest", "durable webhooks, against a bare endpoint and `webhook`", ("--rounds", "5")),
    Bench("throughput", "complete runs a second with 400 incidents at once, against DBOS"),
    Bench("recovery", "reaction and storm, against `webhook` running `curl`"),
    Bench("footprint", "memory, idle processor time, start"),
    Bench("audit", "audit log: append and verify"),
    Bench("growth", "the guards' work with 100 and with 10,000 actions in their windows", (), ()),
    Bench("console", "console pages with 10,000 and with 1,000,000 runs"),
    Bench("report", "report of 90 days with 1,000 alerts a day"),
    Bench("backtest", "backtest, and what 90 days with 1,000 alerts a day would take"),
    Bench("postgres", "the service on PostgreSQL: ingest, reaction, runs, replicas"),
)


def main() -> None:
    """Run the chosen benches."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--short", action="store_true", help="only what takes seconds; nothing is written")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(bench.name for bench in SUITE))
    asked = parser.parse_args()
    chosen = [bench for bench in SUITE if not asked.names or bench.name in asked.names]
    if asked.short:
        chosen = [bench for bench in chosen if bench.short is not None]
    found = {}
    for bench in chosen:
        print(f"{bench.name}: {bench.what}", flush=True)
        result = run(ROOT, bench, bench.short or () if asked.short else bench.arguments)
        found[bench.name] = result
        print("\n".join(f"  {key:40} {value}" for key, value in flat(result)), flush=True)
    if not asked.short:
        RESULTS.write_text(render(found))
    sys.exit(1 if None in found.values() else 0)


def run(root: Path, bench: Bench, arguments: Sequence[str]) -> Mapping[str, Any] | None:
    """Run a bench of the version in a folder. Return its result, or None if it failed or does not exist."""
    if not (root / f"bench/{bench.name}.py").is_file():
        return None
    argv = [sys.executable, "-m", f"bench.{bench.name}", "--json", *arguments]
    done = subprocess.run(
        argv, cwd=root, env={**os.environ, "PYTHONPATH": str(root)}, capture_output=True, text=True, check=False
    )
    start = done.stdout.find("{")
    if start < 0:
        print(done.stderr[-2000:], file=sys.stderr)
        return None
    found: Mapping[str, Any] = json.loads(done.stdout[start:])
    return found


def flat(result: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Return the values of a result with their paths, for example ``per_second.bare``."""
    if isinstance(result, Mapping):
        for key, value in result.items():
            yield from flat(value, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(result, list):
        for number, value in enumerate(result):
            yield from flat(value, f"{prefix}.{number}")
    else:
        yield prefix, "failed" if result is None else result


def render(found: Mapping[str, Any]) -> str:
    """Return the results as a page: the machine and the versions, and then one table for each bench."""
    libraries = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    lines = [
        "# Results of the benches",
        "",
        f"Written by `make bench` on {datetime.now(UTC):%Y-%m-%d %H:%M}Z.",
        "",
        f"- Machine: {os.cpu_count()} cores, {_processor()}, {_memory()} GB of memory, Linux {platform.release()}.",
        f"- Load at the end (1, 5 and 15 minutes): {load}.",
        f"- Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, {libraries}.",
        "- Event-Driven Ansible (`ansible-rulebook`) is not measured: it needs a Java runtime.",
        "",
        "## Goals",
        "",
        *budgets.table(found),
    ]
    for bench in SUITE:
        if bench.name in found:
            lines += [f"## {bench.name}: {bench.what}", "", "| measured | value |", "|---|---|"]
            lines += [f"| `{key}` | {value} |" for key, value in flat(found[bench.name])]
            lines.append("")
    return "\n".join(lines)


def _processor() -> str:
    names = [
        line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "name" in line
    ]
    return names[0] if names else platform.machine()


def _memory() -> int:
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9)


if __name__ == "__main__":
    main()
