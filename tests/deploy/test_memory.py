"""The bench measures every documented figure of memory."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest

from tests.support.servers.remediator import ROOT

LIMIT_MB = 256 * 1.048576
"""The limit of the shipped containers."""


@pytest.mark.long
def test_the_bench_of_replicas_gives_figures_within_half_the_limit(postgres_url: str) -> None:
    """Two replicas on PostgreSQL need at most half the limit at rest, after alerts and after pages."""
    argv = [sys.executable, "-m", "bench.replicas", postgres_url, "--json", "--alerts", "40"]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    states = ("at_rest", "after_40_alerts", "after_console_pages")
    assert found.keys() == {f"{state}_{kind}_mb" for state in states for kind in ("rss", "pss")}
    assert all(20 < found[f"{state}_pss_mb"] <= found[f"{state}_rss_mb"] for state in states), found
    assert found["after_console_pages_pss_mb"] < LIMIT_MB / 2, found


def test_the_documentation_states_every_figure() -> None:
    """The documentation has RSS and PSS of each state, and the limit."""
    text = (ROOT / "docs/deployment.md").read_text().partition("## Memory")[2].partition("\n## ")[0]
    assert len(re.findall(r"^\| .* \| \d+ MB \| \d+ MB \|$", text, re.MULTILINE)) == 3
    assert "256 MiB" in text
