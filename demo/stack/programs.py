"""The programs of the stack, which are Debian packages: find them, and as root install missing ones."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from demo.stack.settings import StackError

PACKAGES = {
    "redis-server": "redis-server",
    "prometheus": "prometheus",
    "promtool": "prometheus",
    "prometheus-alertmanager": "prometheus-alertmanager",
    "amtool": "prometheus-alertmanager",
    "prometheus-redis-exporter": "prometheus-redis-exporter",
    "prometheus-node-exporter": "prometheus-node-exporter",
    "nginx": "nginx-light",
    "redis-check-rdb": "redis-tools",
}
"""Debian package of each program."""


def missing(programs: Mapping[str, str]) -> list[str]:
    """Return the packages of missing programs."""
    return sorted({package for program, package in programs.items() if find(program) is None})


def find(program: str) -> str | None:
    """Return the path of a program, also in the sbin folders, which not every PATH has."""
    postgres = ":".join(str(folder) for folder in Path("/usr/lib/postgresql").glob("*/bin"))
    return shutil.which(program, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin:{postgres}")


def ensure(programs: Mapping[str, str] = PACKAGES) -> None:
    """Install missing packages.

    Raises:
        StackError: a package is missing and the user is not root, or the installation failed.
    """
    packages = missing(programs)
    if not packages:
        return
    if os.geteuid() != 0:
        raise StackError(
            f"Missing Debian packages: as root, run 'apt-get install {' '.join(packages)}', then try again."
        )
    if find("apt-get") is None:
        names = ", ".join(program for program in programs if find(program) is None)
        raise StackError(f"Missing: {names}. There is no apt-get here to install them; bring them yourself.")
    print(f"installing Debian packages: {' '.join(packages)}", flush=True)
    _install(packages)
    still = missing(programs)
    if still:
        raise StackError(f"apt-get did not bring {' '.join(still)}; install them by hand, then try again.")


def _install(packages: Sequence[str]) -> None:
    """Install packages without starting Debian's own services, which would take the ports.

    A start-stop policy refuses every start.
    """
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    policy = Path("/usr/sbin/policy-rc.d")
    ours = not policy.exists()
    if ours:
        policy.write_text("#!/bin/sh\n# of demo/stack/programs.py, for the time of one apt-get\nexit 101\n")
        policy.chmod(0o755)
    try:
        with tempfile.TemporaryFile("w+") as output:
            for argv in (
                ["apt-get", "update", "-q"],
                ["apt-get", "install", "-qy", "--no-install-recommends", *packages],
            ):
                if subprocess.run(
                    argv, env=environment, stdout=output, stderr=subprocess.STDOUT, check=False
                ).returncode:
                    output.seek(0)
                    last = output.read().strip().splitlines()[-1:]
                    raise StackError(f"'{' '.join(argv[:2])}' failed: {''.join(last)}")
    finally:
        if ours:
            policy.unlink(missing_ok=True)


FOR_TESTS = PACKAGES | {
    "webhook": "webhook",
    "wrk": "wrk",
    "strace": "strace",
    "git": "git",
    "pg_ctl": "postgresql",
    "chromium": "chromium",
    "curl": "curl",
    "sshd": "openssh-server",
    "ip": "iproute2",
}
"""Packages that only tests and benches need in addition."""


if __name__ == "__main__":
    try:
        ensure(FOR_TESTS)
    except StackError as error:
        print(f"{error} Tests that need them are skipped.", file=sys.stderr)
