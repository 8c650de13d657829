"""A smaller ``make demo-fleet``: hosts behind a real sshd, a failed unit, a host that is cut off, and many alerts."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from demo.stack.settings import ROOT
from tests.support.servers import require


@pytest.mark.long
@pytest.mark.promise(3)
def test_a_fleet_heals_in_waves_and_nothing_is_done_twice() -> None:
    """The demonstration checks the record of each host, and exits with 1 if a promise is broken."""
    for program in ("sshd", "prometheus", "prometheus-alertmanager"):
        require(program)
    environment = {**os.environ, "HOSTS": "80", "FAILED": "8", "COLUMNS": "200"}
    done = subprocess.run(
        [sys.executable, "-m", "demo.fleet"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=850,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "cut off in the middle of its restart" in done.stdout
    assert "the storm guard holds everything back" in done.stdout
    assert "the audit log does not verify" not in done.stdout
