"""Read test files, play what they say, and tell what came of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from remediator.catalogue import Catalogue
from remediator.errors import ConfigurationError
from remediator.findings import Finding, Severity, did_you_mean
from remediator.loader import Playbooks, Reading, load_playbooks, read_model, shown
from remediator.loading.nodes import Node, find, key_of
from remediator.playbook import Playbook
from remediator.testing.coverage import branches, taken
from remediator.testing.judge import judge
from remediator.testing.model import Case, Suite
from remediator.testing.play import Kinds, Played, play


@dataclass(frozen=True, slots=True)
class Ran:
    """One test, and every way in which it was not as expected."""

    name: str
    findings: tuple[Finding, ...]


@dataclass(slots=True)
class Report:
    """What came of one test file."""

    file: str
    tests: list[Ran] = field(default_factory=list)
    errors: list[Finding] = field(default_factory=list)
    """Why the file, or its playbook, cannot be used; then nothing was played."""
    branches: tuple[str, ...] = ()
    taken: frozenset[str] = frozenset()

    @property
    def failed(self) -> int:
        """How many tests were not as expected."""
        return sum(1 for test in self.tests if test.findings)

    @property
    def untaken(self) -> list[str]:
        """The branches that no test takes."""
        return [name for name in self.branches if name not in self.taken]


def files_in(paths: Sequence[Path]) -> list[Path]:
    """The test files among these files and folders.

    Raises:
        ConfigurationError: a path does not exist, or there is nothing to test.
    """
    found: list[Path] = []
    for path in paths:
        if not path.exists():
            raise ConfigurationError(f"{path}: there is no such file or folder")
        chosen = sorted(path.rglob("*.test.y*ml")) if path.is_dir() else [_beside(path)]
        found += [file for file in chosen if file not in found]
    if not found:
        raise ConfigurationError(f"no *.test.yaml in {', '.join(map(str, paths))}")
    return found


def _beside(path: Path) -> Path:
    """The tests of a playbook that is named itself."""
    if path.name.endswith((".test.yaml", ".test.yml")):
        return path
    beside = path.with_name(f"{path.stem}.test{path.suffix}")
    if not beside.exists():
        raise ConfigurationError(f"{path} has no tests: there is no {beside.name} beside it")
    return beside


def run(path: Path, catalogue: Catalogue, kinds: Kinds, only: str = "") -> Report:
    """Play the tests of a file.

    Args:
        only: just those tests whose names have this in them.
    """
    report = Report(shown(path))
    reading = read_model(path, Suite)
    if reading.model is None or reading.root is None:
        report.errors += reading.findings
        return report
    known = load_playbooks([path.parent], catalogue, None)
    suite, root = reading.model, reading.root
    playbook = _chosen(suite, root, known, report)
    if playbook is None:
        return report
    report.errors += _strangers(reading, playbook, catalogue)
    if report.errors:
        return report
    if not suite.tests:
        report.errors.append(find(root, ("tests",))[0].finding("no-tests", "there is no test here"))
    report.branches = branches(playbook)
    results: list[Played] = []
    for at, case in enumerate(suite.tests):
        if only in case.name:
            results.append(play(suite.filled(case), suite, playbook, kinds))
            report.tests.append(Ran(case.name, tuple(judge(case, at, results[-1], known.playbooks, root))))
    report.taken = frozenset(taken(results))
    return report


def _chosen(suite: Suite, root: Node, known: Playbooks, report: Report) -> Playbook | None:
    found = next((item for item in known.playbooks if item.name == suite.playbook), None)
    if found is None:
        errors = [item for item in known.findings if item.severity is Severity.ERROR]
        hint = did_you_mean(suite.playbook, [item.name for item in known.playbooks])
        message = f"there is no playbook {suite.playbook!r} in this folder that can be used"
        report.errors.append(find(root, ("playbook",))[0].finding("unknown-playbook", message, hint))
        report.errors += errors
    return found


def _strangers(reading: Reading[Suite], playbook: Playbook, catalogue: Catalogue) -> list[Finding]:
    """Names that stand for nothing: a test of what is not there could not fail."""
    assert reading.model is not None and reading.root is not None
    found = []
    for at, case in enumerate(reading.model.tests):
        for path, what, known in _names(case, playbook, catalogue):
            name = str(path[-1])
            if name not in known:
                place = key_of(reading.root, ("tests", at, *path)) or find(reading.root, ("tests", at, *path[:-1]))[0]
                found.append(
                    place.finding(f"unknown-{what}", f"there is no {what} {name!r}", did_you_mean(name, known))
                )
    return found


Path_ = tuple[str | int, ...]


def _names(case: Case, playbook: Playbook, catalogue: Catalogue) -> Iterator[tuple[Path_, str, Sequence[str]]]:
    """Every name in a test that has to stand for something: where, for what, and what there is."""
    steps, looks = [step.id for step in playbook.steps], [look.id for look in playbook.diagnose]
    sections: tuple[tuple[Path_, Iterable[str], str, Sequence[str]], ...] = (
        (("checks",), case.checks, "check", list(catalogue.checks)),
        (("actions",), case.actions, "action", list(catalogue.actions)),
        (("expect", "guards"), case.expect.guards, "guard", list(catalogue.guards)),
        (("expect", "evidence"), case.expect.evidence, "evidence", looks),
        *((("expect", part), getattr(case.expect, part) or (), "step", steps) for part in ("steps", "skipped", "plan")),
    )
    for path, names, what, known in sections:
        yield from (((*path, name), what, known) for name in names)
    for section in ("checks", "queries", "actions", "platform"):
        for key, answers in getattr(case, section).items():
            effects = [item.after for item in answers if item.after is not None]
            yield from (((section, key, name), "action", list(catalogue.actions)) for name in effects)
