"""``make demo-fleet``, smaller: hosts behind real sshd, a failed unit, a host that is cut off, and a flood."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from demo.stack.settings import ROOT
from tests.support.servers import require


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.promise(3)
def test_a_fleet_heals_in_waves_and_nothing_is_done_twice() -> None:
    """The demonstration itself checks each host's own record, and ends with 1 if anything is not as promised."""
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
        timeout=550,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "cut off in the middle of its restart" in done.stdout
    assert "the storm guard holds everything back" in done.stdout
    assert "the audit log does not verify" not in done.stdout
