"""Measure how many simulated schedules a processor core runs per second: ``python -m bench.simulation [--json]``

A schedule is the production engine without disk and without waiting, so this is also a measure of the engine. The rate
is per second of processor time, which depends little on other load of the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time

from tests.simulation.schedule import simulate


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--schedules", type=int, default=60)
    asked = parser.parse_args()
    simulate(1)  # builds the statements
    begun = time.process_time()
    broken = sum(simulate(seed).broken is not None for seed in range(2, asked.schedules + 2))
    result = {
        "schedules_per_cpu_second": round(asked.schedules / (time.process_time() - begun), 1),
        "schedules_broken": broken,
    }
    lines = (f"{key:32} {value}" for key, value in result.items())
    print(json.dumps(result) if asked.json else "\n".join(lines))
    sys.exit(1 if broken else 0)


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != "0":  # the order of sets is part of a schedule
        os.environ["PYTHONHASHSEED"] = "0"
        os.execv(sys.executable, [sys.executable, "-m", "bench.simulation", *sys.argv[1:]])
    main()
