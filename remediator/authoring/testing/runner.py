"""Run test files and report the results."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from remediator.authoring.testing.assertions import compare
from remediator.authoring.testing.coverage import branches, taken
from remediator.authoring.testing.execute import CaseResult, execute, inventory_of
from remediator.authoring.testing.model import Expect, Given, Suite
from remediator.errors import ConfigurationError
from remediator.extensions.registry import Registry
from remediator.playbooks.catalogue import Catalogue
from remediator.playbooks.diagnostics import Diagnostic, Severity, did_you_mean
from remediator.playbooks.loader import load_playbooks, read_model, shown
from remediator.playbooks.model import Playbook
from remediator.playbooks.parsing.nodes import Node, find, key_of
from remediator.playbooks.parsing.nodes import Path as NodePath


@dataclass(frozen=True, slots=True)
class CaseReport:
    """One test, and every expectation that it does not meet."""

    name: str
    diagnostics: tuple[Diagnostic, ...]


@dataclass(slots=True)
class Report:
    """The result of one test file."""

    file: str
    tests: list[CaseReport] = field(default_factory=list)
    errors: list[Diagnostic] = field(default_factory=list)
    """Errors of the file or of its playbook; if there are any, no test was run."""
    branches: tuple[str, ...] = ()
    taken: frozenset[str] = frozenset()

    @property
    def failed(self) -> int:
        """Return the number of tests that failed."""
        return sum(1 for test in self.tests if test.diagnostics)

    @property
    def untaken(self) -> list[str]:
        """Return the branches that no test takes."""
        return [name for name in self.branches if name not in self.taken]


def files_in(paths: Sequence[Path]) -> list[Path]:
    """Return the test files in these files and folders.

    Raises:
        ConfigurationError: a path does not exist, or there are no tests.
    """
    found: list[Path] = []
    for path in paths:
        if not path.exists():
            raise ConfigurationError(
                f"{path}: no such file or folder; name one that exists, or write a playbook with 'remediator init'"
            )
        chosen = sorted(path.rglob("*.test.y*ml")) if path.is_dir() else [_beside(path)]
        found += [file for file in chosen if file not in found]
    if not found:
        raise ConfigurationError(
            f"no tests found in {', '.join(map(str, paths))}: add a file NAME.test.yaml beside a playbook"
        )
    return found


def _beside(path: Path) -> Path:
    """Return the test file of a playbook or of itself."""
    if path.name.endswith((".test.yaml", ".test.yml")):
        return path
    beside = path.with_name(f"{path.stem}.test{path.suffix}")
    if not beside.exists():
        raise ConfigurationError(f"{path} has no tests: add {beside.name} beside it")
    return beside


def run(path: Path, registry: Registry, only: str = "") -> Report:
    """Run the tests of a file.

    Args:
        path: the test file.
        registry: the actions, checks and guards of the installation.
        only: part of the names of the tests to run; default: all.
    """
    report = Report(shown(path))
    reading = read_model(path, Suite)
    if reading.model is None or reading.root is None:
        report.errors += reading.diagnostics
        return report
    catalogue = registry.catalogue()
    known = load_playbooks([path.parent], catalogue, None)
    suite, root = reading.model, reading.root
    playbook = next((item for item in known.playbooks if item.name == suite.playbook), None)
    if playbook is None:
        hint = did_you_mean(suite.playbook, [item.name for item in known.playbooks])
        message = f"this folder contains no usable playbook {suite.playbook!r}"
        report.errors.append(find(root, ("playbook",))[0].diagnostic("unknown-playbook", message, hint))
        report.errors += [item for item in known.diagnostics if item.severity is Severity.ERROR]
        return report
    report.errors += _unknown_names(suite, root, playbook, catalogue)
    if report.errors:
        return report
    if not suite.tests:
        report.errors.append(find(root, ("tests",))[0].diagnostic("no-tests", "the file contains no tests"))
    report.branches = branches(playbook)
    results: list[CaseResult] = []
    for at, case in enumerate(suite.tests):
        if only in case.name:
            results.append(execute(suite.merged(case), suite, playbook, registry))
            report.tests.append(CaseReport(case.name, tuple(compare(case, at, results[-1], known.playbooks, root))))
    report.taken = frozenset(taken(results))
    return report


Names = Iterator[tuple[NodePath, str, Sequence[str]]]
"""Names in a test file: path, kind, and the known names of this kind."""
_STEPS = ("steps", "skipped", "plan", "calls", "undone")


def _unknown_names(suite: Suite, root: Node, playbook: Playbook, catalogue: Catalogue) -> list[Diagnostic]:
    """Return the unknown names. A test with a misspelled name could never fail."""
    services = list(inventory_of(suite, playbook).services)
    named = [(("given", *path), what, known) for path, what, known in _given(suite.given, services, catalogue)]
    for at, case in enumerate(suite.tests):
        for path, what, known in (*_given(case, services, catalogue), *_expected(case.expect, playbook, catalogue)):
            named.append((("tests", at, *path), what, known))
    found = []
    for path, what, known in named:
        name = str(path[-1])
        if name not in known:
            place = key_of(root, path) or find(root, path[:-1])[0]
            found.append(place.diagnostic(f"unknown-{what}", f"unknown {what} {name!r}", did_you_mean(name, known)))
    return found


def _given(given: Given, services: Sequence[str], catalogue: Catalogue) -> Names:
    actions = list(catalogue.actions)
    for section, what, known in (
        ("checks", "check", list(catalogue.checks)),
        ("actions", "action", actions),
        ("platform", "service", services),
    ):
        yield from (((section, name), what, known) for name in getattr(given, section))
    for section in ("checks", "queries", "actions", "platform"):
        for key, answers in getattr(given, section).items():
            effects = [item.after for item in answers if item.after is not None]
            yield from (((section, key, name), "action", actions) for name in effects)
    models = {"checks": catalogue.checks, "actions": catalogue.actions}
    for section, of_name in models.items():
        for key, answers in getattr(given, section).items():
            parameters = list(of_name[key].model_fields) if key in of_name else []
            for at, item in enumerate(answers):
                yield from (((section, key, at, "with", name), "parameter", parameters) for name in item.with_)


def _expected(expect: Expect, playbook: Playbook, catalogue: Catalogue) -> Names:
    steps, looks = [step.id for step in playbook.steps], [look.id for look in playbook.diagnose]
    sections: tuple[tuple[str, Iterable[str], str, Sequence[str]], ...] = (
        ("guards", expect.guards, "guard", list(catalogue.guards)),
        ("evidence", expect.evidence, "evidence", looks),
        *((part, getattr(expect, part) or (), "step", steps) for part in _STEPS),
    )
    for section, names, what, known in sections:
        yield from ((("expect", section, name), what, known) for name in names)
