"""Shared parts of faults on a real engine: its command-line program, and an app of the inventory that runs there.

The local stack runs as always. Only the service ``app`` of its inventory is another one: containers or a Deployment,
with a name for this row, removed after it. Alerts carry the labels that ``alerting/rules.yml`` gives.
"""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import Mapping
from typing import Any

from demo.judge.scene import Scene
from demo.stack.settings import StackError

IMAGE = "busybox:1"
SERVE = "while [ ! -e /tmp/leak ]; do sleep 0.5; done; exec tail /dev/zero"
"""A command that serves until a file exists, and then needs more memory until it is killed, also after a restart."""
LACKS_MODULE = """echo "ModuleNotFoundError: No module named 'prices_client'" >&2; exit 1"""
DIES = "sleep 6; exit 1"
SECONDS = 90.0


def own_name(scene: Scene) -> str:
    """Return a name for objects that this row creates on the engine."""
    name: str = scene.noted.setdefault("name", f"judge-{secrets.token_hex(4)}")
    return name


def let_be_app(scene: Scene, binding: Mapping[str, Any]) -> None:
    """Make the service ``app`` of the inventory run on an engine. Its HTTP address stays that of the local app."""

    def change(services: dict[str, Any]) -> None:
        services["app"] = {
            "platform": dict(binding),
            "instances": 1 if binding["kind"] == "docker" else 2,
            "depends_on": ["redis"],
            "http": services["app"]["http"],
        }

    scene.inventory(change)


def run(*argv: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command and return its result, with exit status 127 if the program is not installed."""
    try:
        return subprocess.run(argv, input=given, capture_output=True, text=True, timeout=120)
    except FileNotFoundError:
        return subprocess.CompletedProcess(argv, 127, "", f"{argv[0]} is not installed")


def must(*argv: str, given: str | None = None) -> str:
    """Run a command and return its output.

    Raises:
        StackError: the command failed.
    """
    done = run(*argv, given=given)
    if done.returncode:
        raise StackError(f"{' '.join(argv[:4])} failed: {done.stderr.strip()[-300:]}")
    return done.stdout.strip()
