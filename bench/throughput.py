"""Measure complete runs per second with 400 incidents at once, against DBOS workflows with the same three HTTP calls.

``python -m bench.throughput [--json] [--dbos PYTHON]``. DBOS (https://docs.dbos.dev) is not a dependency. Install it
into a separate environment, and name the interpreter of that environment with ``--dbos`` or in ``DBOS_PYTHON``. Without
it, only this service is measured. This service makes a plan, evaluates all guards, keeps a signed record and proves the
result. The workflow only makes its calls. Both use SQLite in WAL mode on the same disk, in turns.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

from bench.measure import ROOT
from bench.recovery import Patients, _ask, _notification, _post, _remediator, _until


def main() -> None:
    """Measure in turns and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--incidents", type=int, default=400)
    parser.add_argument("--dbos", metavar="PYTHON", default=os.environ.get("DBOS_PYTHON"))
    asked = parser.parse_args()
    ours, others = [], []
    for _ in range(asked.rounds):
        with tempfile.TemporaryDirectory(dir=Path.cwd()) as name:
            ours.append(asked.incidents / _ours(Path(name), asked.incidents))
            if asked.dbos:
                others.append(
                    asked.incidents / theirs(asked.dbos, asked.incidents, f"sqlite:///{Path(name) / 'dbos.db'}")
                )
    result: dict[str, Any] = {"incidents_at_once": asked.incidents, "runs_per_second": round(median(ours), 1)}
    if others:
        result["dbos_workflows_per_second"] = round(median(others), 1)
        result["rate_to_dbos"] = round(median([a / b for a, b in zip(ours, others, strict=True)]), 2)
    else:
        result["rate_to_dbos"] = "skipped: name an interpreter that has DBOS in DBOS_PYTHON"
    text = "\n".join(f"{key:32} {value}" for key, value in result.items())
    print(json.dumps(result, indent=2) if asked.json else text)


def _ours(folder: Path, incidents: int) -> float:
    """Return the seconds from the notification of all alerts to the end of the last run."""
    patients, names = Patients(), [f"t{number}" for number in range(incidents)]
    with ExitStack() as stack:
        where = _remediator(folder / "ours", patients, names, stack)
        begun = time.perf_counter()
        _post(where, _notification(names))
        database = folder / "ours/state/remediator.db"
        succeeded = "SELECT count(*) FROM runs WHERE status = 'succeeded'"
        _until(lambda: _ask(database, succeeded) == incidents, 300, pause=0.05)
        seconds = time.perf_counter() - begun
    patients.shutdown()
    return seconds


def theirs(python: str, incidents: int, database: str) -> float:
    """Return the seconds from the start of the first workflow to the end of the last.

    Args:
        python: an interpreter that has DBOS.
        incidents: number of workflows.
        database: URL of an empty database.
    """
    patients = Patients()
    argv = [python, str(ROOT / "bench/dbos_peer.py"), patients.url, str(incidents), database]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=600)
    patients.shutdown()
    if done.returncode != 0:
        raise SystemExit(f"{python} cannot run bench/dbos_peer.py: {done.stderr.strip()[-500:]}")
    assert len(patients.healed) == incidents + 1  # the first one warms up
    return float(done.stdout.split()[-1])


if __name__ == "__main__":
    main()
