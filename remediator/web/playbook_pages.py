"""The playbooks: their modes and results, and the source, versions, tests and history of each playbook."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from difflib import unified_diff
from pathlib import Path
from typing import Any

import yaml
from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from remediator.audit import Kind, NotCanonical, decode
from remediator.core.approval import Permission, Person
from remediator.errors import InputError
from remediator.playbooks import references
from remediator.playbooks.model import Playbook
from remediator.storage.repositories import audit, autonomy, breakers, playbooks, runs
from remediator.storage.repositories.playbooks import PlaybookVersion
from remediator.web.authentication import RequestIdentity
from remediator.web.frame import read_draft
from remediator.web.site import HEADERS, Site

_MAX_VERSIONS = 50
_MAX_HISTORY = 20
_HISTORY_WINDOW = 2000
"""Number of the newest commands of operators that are searched for changes of the mode."""
TEST_TIMEOUT = 120.0
"""Seconds after which the tests of a playbook are stopped."""


@dataclass(frozen=True, slots=True)
class PlaybookStatus:
    """A playbook with its mode, circuit breaker and results."""

    playbook: Playbook
    mode: str
    change: autonomy.ModeOverride | None
    """The latest change of the mode by an operator or a circuit breaker."""
    breaker: tuple[str, str, datetime] | None
    """Reason, scope and time, if the circuit breaker is open."""
    results: Mapping[str, int]
    """Number of runs by status."""

    @property
    def ended(self) -> int:
        """Number of recent runs that acted and ended."""
        return sum(self.results.get(status, 0) for status in ("succeeded", "failed", "escalated"))

    @property
    def success_rate(self) -> int | None:
        """Percentage of these runs that succeeded, or None."""
        return None if not self.ended else round(100 * self.results.get("succeeded", 0) / self.ended)


@dataclass(frozen=True, slots=True)
class ModeChange:
    """One change of the mode of a playbook."""

    at: datetime
    who: str
    before: str
    after: str
    reason: str


@dataclass(frozen=True, slots=True)
class TestResult:
    """The result of the tests of one version."""

    version: str
    at: datetime
    passed: Sequence[str]
    failed: Sequence[str]
    error: str
    """The reason why the tests could not run; empty if they ran."""
    branches: str
    """How many branches the tests reach, for example ``12 of 12``."""


@dataclass(slots=True)
class PlaybookTests:
    """The newest result of the tests of each playbook, in the memory of this process."""

    results: dict[str, TestResult] = field(default_factory=dict)
    running: set[str] = field(default_factory=set)


async def playbook_list(site: Site, request: Request, identity: RequestIdentity) -> Response:
    """Answer ``GET /playbooks``: success rate, mode and circuit breaker of each playbook."""
    loaded = site.service.context.playbooks
    listed = await site.service.context.store.view(
        lambda connection: [_status(connection, playbook, loaded.environment) for playbook in loaded.active]
    )
    return site.render(request, identity, "playbooks.html", listed=listed, modes=autonomy.MODES, live=False)


def _status(connection: Connection, playbook: Playbook, environment: str) -> PlaybookStatus:
    return PlaybookStatus(
        playbook,
        autonomy.effective_mode(connection, playbook.name, playbook.mode_in(environment)),
        autonomy.get_override(connection, playbook.name),
        breakers.list_tripped(connection).get(playbook.name),
        runs.count_by_status(connection, playbook.name),
    )


async def playbook_page(tests: PlaybookTests, site: Site, request: Request, identity: RequestIdentity) -> Response:
    """Answer ``GET /playbooks/<name>``. ``from`` and ``to`` select the versions to compare."""
    name = request.path_params["name"]
    loaded = site.service.context.playbooks
    playbook = loaded.active_version(name)

    def read(connection: Connection) -> tuple[Any, ...]:
        status = None if playbook is None else _status(connection, playbook, loaded.environment)
        versions = playbooks.list_versions(connection, name, _MAX_VERSIONS)
        return (
            status,
            versions,
            _mode_changes(connection, name),
            runs.list_page(connection, 10, only=runs.RunFilter(playbook=name)),
        )

    status, versions, changes, recent = await site.service.context.store.view(read)
    if playbook is None and not versions:
        text = f"No playbook has the name {name[:64]!r}."
        return site.error_page(request, identity, 404, "Playbook not found", text)
    return site.render(
        request,
        identity,
        "playbook.html",
        name=name,
        state=status,
        modes=autonomy.MODES,
        changes=changes,
        versions=versions,
        recent=recent,
        comparison=_compare(versions, request.query_params.get("from", ""), request.query_params.get("to", "")),
        source=_as_yaml(
            versions[0].content
            if playbook is None
            else playbook.model_dump(mode="json", by_alias=True, exclude_unset=True)
        ),
        tested=tests.results.get(name),
        testing=name in tests.running,
        may_test=identity.may(Permission.RETRY),
        test_file=_test_file(playbook),
        services=sorted(loaded.inventory.services),
        may_start=identity.may(Permission.START),
        given=_given(playbook),
        typed=_typed(site, request, name),
        live=name in tests.running,
    )


@dataclass(frozen=True, slots=True)
class GivenParameter:
    """A parameter that a person gives to start a run by hand."""

    name: str
    required: bool
    default: str


def _given(playbook: Playbook | None) -> list[GivenParameter]:
    """Return the parameters that come from a label of the alert, except the parameter that the service fills."""
    if playbook is None:
        return []
    target = set(references.references(playbook.target))
    return [
        GivenParameter(name, item.default is None, str(item.default))
        for name, item in playbook.parameters.items()
        if item.label is not None and name not in target
    ]


def _typed(site: Site, request: Request, name: str) -> Mapping[str, str]:
    """Return the input of a person in the form before an error or a sign-in."""
    kept_for, kept = read_draft(site.service, request)
    return kept if kept_for == "/runs" and kept.get("playbook") == name else {}


def _as_yaml(content: Any) -> str:
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=110)


def _compare(versions: Sequence[PlaybookVersion], before: str, after: str) -> Mapping[str, str] | None:
    """Return the differences of two versions (default: the two newest); None if there is only one version."""
    known = {version.hash: version for version in versions}
    new = known.get(after) or (versions[0] if versions else None)
    old = known.get(before) or (versions[1] if len(versions) > 1 else None)
    if new is None or old is None:
        return None
    before_text, after_text = (_as_yaml(version.content).splitlines() for version in (old, new))
    lines = unified_diff(before_text, after_text, old.hash[:12], new.hash[:12], n=3, lineterm="")
    return {"from": old.hash, "to": new.hash, "text": "\n".join(lines) or "The two versions are the same."}


def _mode_changes(connection: Connection, name: str) -> list[ModeChange]:
    """Return the newest changes of the mode, from the audit log."""
    found: list[ModeChange] = []
    for row in audit.list_newest(connection, _HISTORY_WINDOW, kind=Kind.OPERATOR_COMMAND):
        try:
            entry = decode(row.canonical)
        except NotCanonical:
            continue  # the audit page reports it
        if entry.playbook == name and entry.data.get("command") in ("promote", "demote") and "to" in entry.data:
            before, after = str(entry.data.get("from", "")), str(entry.data["to"])
            found.append(ModeChange(entry.time, entry.actor, before, after, entry.reason or ""))
    return found[:_MAX_HISTORY]


def _test_file(playbook: Playbook | None) -> str:
    """Return the test file of a playbook; empty if there is no such file beside it."""
    if playbook is None or not playbook.source:
        return ""
    path = Path(playbook.source)
    beside = path.with_name(f"{path.stem}.test.yaml")
    return str(beside) if beside.is_file() else ""


async def run_tests(
    tests: PlaybookTests, site: Site, request: Request, person: Person, fields: Mapping[str, str]
) -> Response:
    """Answer ``POST /playbooks/<name>/test``: run the tests in a separate process.

    They need several seconds of a core. The process has a low priority, so that runs are not delayed.
    """
    person.require(Permission.RETRY)
    name = request.path_params["name"]
    playbook = site.service.context.playbooks.active_version(name)
    file = _test_file(playbook)
    if playbook is None or not file:
        raise InputError(f"playbook {name[:64]!r} has no test file: write {name[:64]}.test.yaml beside it")
    if name not in tests.running:
        tests.running.add(name)
        try:
            tests.results[name] = await _execute(playbook, file, site.now)
        finally:
            tests.running.discard(name)
    return RedirectResponse(f"/playbooks/{name}#tests", 303, HEADERS)


async def _execute(playbook: Playbook, file: str, now: datetime) -> TestResult:
    command = ("nice", "-n", "10", sys.executable, "-m", "remediator", "test", file, "--format", "json")
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe)
    try:
        async with asyncio.timeout(TEST_TIMEOUT):
            out, failure = await process.communicate()
    except TimeoutError:
        with suppress(ProcessLookupError):
            process.kill()
        return TestResult(playbook.content_hash, now, (), (), f"no result within {TEST_TIMEOUT:g} s", "")
    try:
        report = json.loads(out)[0]
    except (ValueError, LookupError):
        text = failure.decode(errors="replace").strip().splitlines()
        return TestResult(playbook.content_hash, now, (), (), text[-1] if text else "the tests gave no result", "")
    passed = [item["name"] for item in report["tests"] if not item["failures"]]
    failed = [f"{item['name']}: {item['failures'][0]}" for item in report["tests"] if item["failures"]]
    branches = f"{len(report['taken'])} of {len(report['branches'])}"
    return TestResult(playbook.content_hash, now, passed, failed, "; ".join(report["errors"]), branches)
