"""Fixtures for every test: the real servers, and the mark of unit tests, which need no server."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

os.environ["TZ"] = "UTC"  # messages and documents show local times, and the golden files expect UTC
time.tzset()

# a slow machine must not fail a property test
settings.register_profile("any-speed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any-speed")

SERVERS = [
    "tests.support.servers.alertmanager",
    "tests.support.servers.docker",
    "tests.support.servers.kubernetes",
    "tests.support.servers.gitops",  # after kubernetes, which it imports
    "tests.support.servers.postgres",
    "tests.support.servers.postgres_target",
    "tests.support.servers.prometheus",
    "tests.support.servers.nginx",
    "tests.support.servers.redis",
    "tests.support.servers.supervisord",
    "tests.support.servers.ssh_hosts",
    "tests.support.servers.app",  # after redis, which it imports: pytest rewrites a module only before its first import
    "tests.support.servers.remediator",  # last, because it imports the others
]
pytest_plugins = SERVERS

UNIT = ("core", "audit", "playbooks", "pipeline", "authoring", "reporting")
"""Packages whose tests are unit tests, unless a test uses a server or starts a process."""
NOT_UNIT = {"process", "slow", "long", "browser", "docker", "kubernetes", "soak"}
_STARTS = {"subprocess.Popen", "os.posix_spawn", "os.fork", "os.forkpty"}
"""Audit events of Python for a new process."""
_started: list[str] = []
"""Audit events of the running test."""


def _note_start(event: str, _: tuple[object, ...]) -> None:
    if event in _STARTS:
        _started.append(event)


sys.addaudithook(_note_start)  # the hook only records, because an error raised in it can reach any code


@pytest.fixture(autouse=True)
def _unit_tests_start_no_process(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a unit test that starts a process."""
    _started.clear()
    yield
    if _started and request.node.get_closest_marker("unit"):
        pytest.fail(f"it starts a process ({_started[0]}), so it is no unit test: mark it with pytest.mark.process")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the unit tests, which ``make test-unit`` runs, and move files with only such tests to the end.

    They are short, so that all processes of ``make test`` end at about the same time.
    """
    here = Path(__file__).parent
    for item in items:
        fixtures = getattr(item, "_fixtureinfo", None)
        definitions = fixtures.name2fixturedefs.values() if fixtures is not None else ()
        servers = any(found[-1].func.__module__ in SERVERS for found in definitions)
        marked = NOT_UNIT & {mark.name for mark in item.iter_markers()}
        if item.path.relative_to(here).parts[0] in UNIT and not servers and not marked:
            item.add_marker("unit")
    longer = {item.path for item in items if not item.get_closest_marker("unit")}
    items.sort(key=lambda item: item.path not in longer)
