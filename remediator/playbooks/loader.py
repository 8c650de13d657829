"""Reading files: playbooks, fragments, inventory and settings. All errors at once, each with its place.

text → nodes with places → fragments put in → model → meaning; the steps are in :mod:`remediator.playbooks.parsing`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import BaseModel

from remediator.errors import ConfigurationError
from remediator.playbooks.catalogue import Catalogue
from remediator.playbooks.diagnostics import Diagnostic, Severity, render
from remediator.playbooks.inventory import Inventory
from remediator.playbooks.model import Fragment, Playbook
from remediator.playbooks.parsing import fragments, semantics
from remediator.playbooks.parsing.nodes import Node, Scalar, Table, Text, child, walk
from remediator.playbooks.parsing.subject import CheckSubject
from remediator.playbooks.parsing.validation import build, faults, salvage
from remediator.playbooks.parsing.yaml_reader import read_file

M = TypeVar("M", bound=BaseModel)

_STAND_INS: Mapping[str, Any] = {
    "apiVersion": "remediator/v1",
    "kind": "Playbook",
    "name": "unnamed",
    "match": {"alertname": "Unknown"},
    "target": "unknown",
}
"""In place of required keys that are missing or wrong, so that the rest of a playbook can be checked."""


@dataclass(frozen=True, slots=True)
class ParsedFile(Generic[M]):
    """One file: the model if it could be used, its nodes if it could be read, and what is wrong with it."""

    model: M | None
    root: Node | None
    findings: tuple[Diagnostic, ...]


@dataclass(frozen=True, slots=True)
class LoadResult:
    """What files and folders hold: the playbooks that can be used, and every finding."""

    playbooks: tuple[Playbook, ...]
    fragments: Mapping[str, Table]
    findings: tuple[Diagnostic, ...]
    documents: Mapping[str, Node] = field(default_factory=dict)
    """Nodes of each usable playbook by its name, fragments put in."""
    texts: Mapping[str, Text] = field(default_factory=dict)
    """Every file that could be read, by its name in findings."""
    roots: tuple[Node, ...] = ()
    """Every file that could be read, as it is written."""


@dataclass(frozen=True, slots=True)
class LoadedConfig:
    """Playbooks and inventory that passed every check."""

    playbooks: tuple[Playbook, ...]
    inventory: Inventory


def read_model(path: Path, model: type[M]) -> ParsedFile[M]:
    """A file as a model, with every way in which it is not one."""
    root, findings = read_file(path, shown(path))
    if root is None:
        return ParsedFile(None, None, tuple(findings))
    base = path.parent.resolve()
    found = [fault.finding(root) for fault in faults(model, root, base)]
    findings = _first_causes((*findings, *found))
    return ParsedFile(None if findings else build(model, root, base), root, tuple(findings))


def read(path: Path, model: type[M]) -> M:
    """A file as a model.

    Raises:
        ConfigurationError: with every reason.
    """
    reading = read_model(path, model)
    if reading.model is None:
        raise refused(f"{shown(path)} cannot be used", reading.findings)
    return reading.model


def load_config(path: Path, model: type[M]) -> M:
    """The settings file.

    Raises:
        ConfigurationError: with every reason.
    """
    return read(path, model)


def load_inventory(path: Path) -> ParsedFile[Inventory]:
    """The inventory, with what is wrong with it."""
    return read_model(path, Inventory)


def load(paths: Sequence[Path], inventory: Path, catalogue: Catalogue) -> LoadedConfig:
    """Playbooks from files and folders, checked against the inventory and what there is to name.

    Raises:
        ConfigurationError: with every error in all files; there is no loading by halves.
    """
    known = load_inventory(inventory)
    found = load_playbooks(paths, catalogue, known.model)
    errors = [item for item in (*known.findings, *found.findings) if item.severity is Severity.ERROR]
    if errors or known.model is None:
        raise refused("playbooks cannot be used", errors)
    return LoadedConfig(found.playbooks, known.model)


def _first_causes(findings: Iterable[Diagnostic]) -> list[Diagnostic]:
    """Without what only follows from something that YAML would have put in at the same place."""
    found = set(findings)
    places = {(item.file, item.line, item.column) for item in found if item.rule in ("alias", "tag")}
    follows = [item for item in found if (item.file, item.line, item.column) in places]
    return sorted(found.difference(item for item in follows if item.rule not in ("alias", "tag")))


def refused(what: str, findings: Sequence[Diagnostic]) -> ConfigurationError:
    """The error that says why files cannot be used."""
    count = f"{len(findings)} error{'s' if len(findings) != 1 else ''}"
    return ConfigurationError(f"{what}: {count}", tuple(render(finding) for finding in findings))


def shown(path: Path) -> str:
    """How findings call a file: as seen from the working folder where it is below that."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def load_playbooks(paths: Sequence[Path], catalogue: Catalogue, inventory: Inventory | None) -> LoadResult:
    """Every playbook in files and folders, with everything that is wrong.

    Args:
        paths: files, and folders of which every ``*.yaml`` but ``*.test.yaml`` is meant.
        catalogue: what there is to name.
        inventory: None where it could not be read; what depends on it is not checked then.
    """
    loading = _Loading(catalogue, inventory)
    for path in paths:
        loading.read(path)
    return loading.result()


class _Loading:
    """Reads all files first, since a playbook may use a fragment of any other."""

    def __init__(self, catalogue: Catalogue, inventory: Inventory | None) -> None:
        self._catalogue = catalogue
        self._inventory = inventory
        self._findings: list[Diagnostic] = []
        self._texts: dict[str, Text] = {}
        self._fragments: dict[str, Table] = {}
        self._roots: list[tuple[str, Table]] = []
        self._playbooks: dict[str, Playbook] = {}
        self._documents: dict[str, Node] = {}

    def read(self, path: Path) -> None:
        """Take in a file, or the files of a folder."""
        files = list(_files(path))
        if not files:
            message = f"there is no playbook in {shown(path)}"
            self._findings.append(Diagnostic(shown(path), 0, 0, "no-playbooks", Severity.WARNING, message))
        for file in files:
            if shown(file) not in self._texts:
                self._read(file)

    def _read(self, file: Path) -> None:
        root, findings = read_file(file, shown(file))
        self._findings += findings
        if root is None:
            return
        self._texts[shown(file)] = root.text
        if not isinstance(root, Table):
            self._findings.append(root.finding("wrong-type", "a playbook is a mapping, like apiVersion: remediator/v1"))
        elif _said(root, "kind") == "Fragment":
            self._fragment(root)
        else:
            self._roots.append((shown(file), root))

    def _fragment(self, root: Table) -> None:
        plain = fragments.without_includes(root)
        self._findings += [fault.finding(plain) for fault in faults(Fragment, plain)]
        name = _said(root, "name")
        if name in self._fragments:
            self._findings.append(_double(root, self._fragments[name], "fragment"))
        elif name:
            self._fragments[name] = root

    def result(self) -> LoadResult:
        """Everything, checked."""
        for fragment in self._fragments.values():
            self._findings += fragments.resolve(fragment, self._fragments)[1]
        for file, root in self._roots:
            self._playbook(file, root)
        return LoadResult(
            tuple(self._playbooks[name] for name in sorted(self._playbooks)),
            self._fragments,
            tuple(_first_causes(self._findings)),
            self._documents,
            self._texts,
            (*self._fragments.values(), *(root for _, root in self._roots)),
        )

    def _playbook(self, file: str, root: Table) -> None:
        resolved, findings = fragments.resolve(root, self._fragments)
        rest = salvage(Playbook, resolved, _STAND_INS)
        findings += [fault.finding(resolved) for fault in rest.faults]
        if rest.model is not None:
            rest.model._source = file
            findings += semantics.check(CheckSubject(rest.model, rest.root, self._catalogue, self._inventory, resolved))
        name = _said(root, "name")
        if name in self._documents:
            findings.append(_double(root, self._documents[name], "playbook"))
        if name and not any(finding.rule == "duplicate-name" for finding in findings):
            self._documents[name] = resolved
        self._findings += findings
        files = {file, *(scalar.text.file for _, scalar in walk(resolved))}
        if rest.model is not None and not any(item.file in files for item in self._findings if _is_error(item)):
            self._playbooks[rest.model.name] = rest.model


def _files(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        yield path
        return
    for item in sorted(path.rglob("*")):
        hidden = any(part.startswith(".") for part in item.relative_to(path).parts)
        if item.suffix in (".yaml", ".yml") and item.is_file() and not hidden and not _is_test(item):
            yield item


def _is_test(path: Path) -> bool:
    return path.name.endswith((".test.yaml", ".test.yml"))


def _said(root: Table, key: str) -> str:
    value = child(root, key)
    return value.value if isinstance(value, Scalar) and isinstance(value.value, str) else ""


def _is_error(finding: Diagnostic) -> bool:
    return finding.severity is Severity.ERROR


def _double(root: Table, first: Node, what: str) -> Diagnostic:
    name = root.entries["name"].value
    message = f"there is already a {what} called {_said(root, 'name')!r} in {first.text.file}"
    return name.finding("duplicate-name", message, "give one of them another name")
