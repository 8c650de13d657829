"""Compare this version with another one in one run: ``python -m bench.check REVISION``

Both versions run the benches of this one in turns, and the medians are compared. Only counts and processor times are
compared, because they depend little on other load of the machine. The exit status is 1 if a value is worse by more than
10 %.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

from bench.measure import ROOT
from bench.suite import SUITE, Bench, flat, run

WORSE_BY = 0.10
LESS_IS_BETTER = {
    "engine": ("commits_per_run", "statements_per_run", "cpu_ms_per_run", "cpu_ms_per_run_at_once"),
    "simulation": (),
}
MORE_IS_BETTER = {"engine": (), "simulation": ("schedules_per_cpu_second",)}


def main() -> None:
    """Compare and print the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("revision", help="of Git, for example HEAD~1 or main")
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder) / "base"
        git("worktree", "add", "--quiet", "--detach", str(base), asked.revision)
        try:
            shutil.copytree(ROOT / "bench", base / "bench", dirs_exist_ok=True)
            worse = [
                line for bench in SUITE if bench.name in LESS_IS_BETTER for line in compare(base, bench, asked.rounds)
            ]
        finally:
            git("worktree", "remove", "--force", str(base))
    sys.exit(1 if worse else 0)


def git(*arguments: str) -> None:
    """Run git in the checkout."""
    subprocess.run(["git", "-C", str(ROOT), *arguments], check=True)


def compare(base: Path, bench: Bench, rounds: int) -> list[str]:
    """Run one bench of both versions in turns. Print each ratio, and return the lines of the worse values."""
    before: list[Mapping[str, Any]] = []
    after: list[Mapping[str, Any]] = []
    for _ in range(rounds):
        for root, found in ((base, before), (ROOT, after)):
            result = run(root, bench, bench.short or ())
            if result is None:
                print(f"{bench.name}: skipped: {'the other' if root == base else 'this'} version cannot run it")
                return []
            found.append(dict(flat(result)))
    worse = []
    for key in (*LESS_IS_BETTER[bench.name], *MORE_IS_BETTER[bench.name]):
        old, new = median([item[key] for item in before]), median([item[key] for item in after])
        ratio = new / old if old else 1.0
        loss = ratio - 1 if key in LESS_IS_BETTER[bench.name] else 1 - ratio
        line = f"{bench.name}.{key}: {old:g} before, {new:g} now, {ratio:.2f} times"
        if loss > WORSE_BY:
            worse.append(line)
        print(f"{line}{'  WORSE' if loss > WORSE_BY else ''}")
    return worse


if __name__ == "__main__":
    main()
