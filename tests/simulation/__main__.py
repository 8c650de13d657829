"""``python -m tests.simulation 1..1000``: run schedules, and stop at the first broken promise with its seed and
trace."""

from __future__ import annotations

import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import click

from tests.simulation.schedule import Result, simulate


@click.command()
@click.argument("seeds", default="1..200")
@click.option("--jobs", default=1, help="Processes.")
@click.option("--trace", is_flag=True, help="Print what happened, broken or not.")
@click.option("--keep-going", is_flag=True, help="Do not end at the first broken promise.")
def main(seeds: str, jobs: int, trace: bool, keep_going: bool) -> None:
    """Run the schedules of SEEDS: a number, or first..last."""
    first, _, last = seeds.partition("..")
    chosen = range(int(first), int(last or first) + 1)
    begun = time.monotonic()
    total: dict[str, int] = dict.fromkeys(("schedules", "crashes", "pauses", "claims", "runs", "actions", "broken"), 0)
    with ProcessPoolExecutor(jobs) as pool:
        run = partial(_simulate, keep_trace=trace)
        results = map(run, chosen) if jobs == 1 else pool.map(run, chosen, chunksize=20)
        for result in results:
            total["schedules"] += 1
            for name in ("crashes", "pauses", "claims", "runs", "actions"):
                total[name] += getattr(result, name)
            if trace or result.broken:
                click.echo("\n".join(result.trace))
            if result.broken:
                total["broken"] += 1
                click.echo(f"seed {result.seed}: {result.broken}")
                if not keep_going:
                    break
    seconds = time.monotonic() - begun
    said = ", ".join(f"{count} {name}" for name, count in total.items())
    click.echo(f"{said}; {total['schedules'] / seconds:.1f} schedules a second")
    sys.exit(1 if total["broken"] else 0)


def _simulate(seed: int, *, keep_trace: bool) -> Result:
    """Run the schedule of a seed. Its trace is dropped if it is not needed, to save the transfer between processes."""
    result = simulate(seed)
    if not (keep_trace or result.broken):
        result.trace = []
    return result


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != "0":  # the iteration order of sets is part of a schedule
        os.environ["PYTHONHASHSEED"] = "0"
        os.execv(sys.executable, [sys.executable, "-m", "tests.simulation", *sys.argv[1:]])
    main()
