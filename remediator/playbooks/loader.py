"""Load playbooks, fragments, the inventory and the settings file, and report all errors at once, each with its place.

The steps are in :mod:`remediator.playbooks.parsing`: text → nodes with places → fragments merged → model → semantics.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
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
from remediator.playbooks.parsing.check_templates import check_templates
from remediator.playbooks.parsing.messages import error_at
from remediator.playbooks.parsing.nodes import Node, Scalar, Table, Text, child, walk
from remediator.playbooks.parsing.subject import CheckSubject
from remediator.playbooks.parsing.validation import build, build_partial, field_errors
from remediator.playbooks.parsing.yaml_reader import read_file

M = TypeVar("M", bound=BaseModel)

_PLACEHOLDERS: Mapping[str, Any] = {
    "apiVersion": "remediator/v1",
    "kind": "Playbook",
    "name": "unnamed",
    "match": {"alertname": "Unknown"},
    "target": "unknown",
}
"""Values for required keys that are missing or wrong, so that the rest of a playbook can be checked."""

_TESTS = (".test.yaml", ".test.yml")


@dataclass(frozen=True, slots=True)
class ParsedFile(Generic[M]):
    """One file."""

    model: M | None
    """The content of the file; None if it has an error."""
    root: Node | None
    """The nodes of the file; None if it cannot be read."""
    diagnostics: tuple[Diagnostic, ...]


@dataclass(frozen=True, slots=True)
class LoadResult:
    """The content of files and folders: the playbooks that can be used, and every diagnostic."""

    playbooks: tuple[Playbook, ...]
    fragments: Mapping[str, Table]
    diagnostics: tuple[Diagnostic, ...]
    documents: Mapping[str, Node] = field(default_factory=dict)
    """The nodes of each playbook by its name, with its fragments merged."""
    texts: Mapping[str, Text] = field(default_factory=dict)
    """Every file that can be read, by its name in diagnostics."""
    roots: tuple[Node, ...] = ()
    """The nodes of every file that can be read, before fragments are merged."""


@dataclass(frozen=True, slots=True)
class LoadedConfig:
    """Playbooks and inventory without errors."""

    playbooks: tuple[Playbook, ...]
    inventory: Inventory


def read_model(path: Path, model: type[M]) -> ParsedFile[M]:
    """Read a file as a model, and return every error."""
    root, diagnostics = read_file(path, shown(path))
    if root is None:
        return ParsedFile(None, None, tuple(diagnostics))
    base = path.parent.resolve()
    found = [error_at(root, error) for error in field_errors(model, root, base)]
    diagnostics = _without_consequences((*diagnostics, *found))
    return ParsedFile(None if diagnostics else build(model, root, base), root, tuple(diagnostics))


def read(path: Path, model: type[M]) -> M:
    """Read a file as a model.

    Raises:
        ConfigurationError: the file has errors; the message contains all of them.
    """
    parsed = read_model(path, model)
    if parsed.model is None:
        raise load_error(f"{shown(path)} cannot be used", parsed.diagnostics)
    return parsed.model


def load_config(path: Path, model: type[M]) -> M:
    """Read the settings file.

    Raises:
        ConfigurationError: there is no such file, or it has errors; the message contains all errors.
    """
    if not path.exists():  # a new user sees this message first
        raise ConfigurationError(
            f"settings file '{path}' does not exist; write a first one with 'remediator init', or name another one "
            "with --config or REMEDIATOR_CONFIG"
        )
    return read(path, model)


def load_inventory(path: Path) -> ParsedFile[Inventory]:
    """Read the inventory, and return every error, including errors in the templates of discoveries."""
    parsed = read_model(path, Inventory)
    if parsed.model is None or parsed.root is None:
        return parsed
    found = tuple(sorted(check_templates(parsed.model, parsed.root, path.parent.resolve())))
    return ParsedFile(None, parsed.root, (*parsed.diagnostics, *found)) if found else parsed


def load(paths: Sequence[Path], inventory: Path, catalogue: Catalogue) -> LoadedConfig:
    """Load playbooks from files and folders, and check them against the inventory and the catalogue.

    Raises:
        ConfigurationError: a file has errors; the message contains the errors of all files, and nothing is loaded.
    """
    parsed = load_inventory(inventory)
    found = load_playbooks(paths, catalogue, parsed.model)
    errors = [item for item in (*parsed.diagnostics, *found.diagnostics) if item.severity is Severity.ERROR]
    if errors or parsed.model is None:
        raise load_error("playbooks cannot be used", errors)
    return LoadedConfig(found.playbooks, parsed.model)


def load_error(message: str, diagnostics: Sequence[Diagnostic]) -> ConfigurationError:
    """Return the exception for files that cannot be used, with every diagnostic."""
    count = f"{len(diagnostics)} error{'s' if len(diagnostics) != 1 else ''}"
    return ConfigurationError(f"{message}: {count}", tuple(render(diagnostic) for diagnostic in diagnostics))


def _without_consequences(diagnostics: Iterable[Diagnostic]) -> list[Diagnostic]:
    """Remove errors that only follow from an alias or a tag at the same place."""
    found, causes = set(diagnostics), ("alias", "tag")
    places = {item.place for item in found if item.rule in causes}
    return sorted(item for item in found if item.rule in causes or item.place not in places)


def shown(path: Path) -> str:
    """Return the name of a file in diagnostics: relative if it is below the current folder."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def yaml_files(path: Path) -> list[Path]:
    """Return the YAML files below a folder in order, without hidden ones; for a file, the file itself."""
    if not path.is_dir():
        return [path]
    found = (each for each in path.rglob("*") if each.suffix in (".yaml", ".yml") and each.is_file())
    return sorted(each for each in found if not any(part.startswith(".") for part in each.relative_to(path).parts))


def load_playbooks(paths: Sequence[Path], catalogue: Catalogue, inventory: Inventory | None) -> LoadResult:
    """Load every playbook in files and folders, and return every error.

    Args:
        paths: files and folders; of a folder, every ``*.yaml`` and ``*.yml`` except tests and hidden files.
        catalogue: the names that playbooks can use.
        inventory: None if it cannot be read; checks that need it are skipped then.
    """
    loader = _Loader(catalogue, inventory)
    for path in paths:
        loader.read(path)
    return loader.result()


class _Loader:
    """Reads all files before it checks any of them, since a playbook can use a fragment of another file."""

    def __init__(self, catalogue: Catalogue, inventory: Inventory | None) -> None:
        self._catalogue = catalogue
        self._inventory = inventory
        self._diagnostics: list[Diagnostic] = []
        self._texts: dict[str, Text] = {}
        self._fragments: dict[str, Table] = {}
        self._roots: list[tuple[str, Table]] = []
        self._playbooks: dict[str, Playbook] = {}
        self._documents: dict[str, Node] = {}

    def read(self, path: Path) -> None:
        """Read a file, or the files of a folder."""
        files = [each for each in yaml_files(path) if each == path or not each.name.endswith(_TESTS)]
        if not files:
            message = f"there is no playbook in {shown(path)}"
            self._diagnostics.append(Diagnostic(shown(path), 0, 0, "no-playbooks", Severity.WARNING, message))
        for file in files:
            name = shown(file)
            if name in self._texts:
                continue
            root, diagnostics = read_file(file, name)
            self._diagnostics += diagnostics
            if root is None:
                continue
            self._texts[name] = root.text
            if not isinstance(root, Table):
                message = "a playbook must be a mapping, beginning with apiVersion: remediator/v1"
                self._diagnostics.append(root.diagnostic("wrong-type", message))
            elif _text(root, "kind") != "Fragment":
                self._roots.append((name, root))
            else:
                plain = fragments.without_includes(root)
                self._diagnostics += [error_at(plain, error) for error in field_errors(Fragment, plain)]
                fragment = _text(root, "name")
                if fragment in self._fragments:
                    self._diagnostics.append(_duplicate_name(root, self._fragments[fragment], "fragment"))
                elif fragment:
                    self._fragments[fragment] = root

    def result(self) -> LoadResult:
        """Check everything that was read."""
        for fragment in self._fragments.values():
            self._diagnostics += fragments.resolve(fragment, self._fragments)[1]
        for file, root in self._roots:
            self._check_playbook(file, root)
        return LoadResult(
            tuple(self._playbooks[name] for name in sorted(self._playbooks)),
            self._fragments,
            tuple(_without_consequences(self._diagnostics)),
            self._documents,
            self._texts,
            (*self._fragments.values(), *(root for _, root in self._roots)),
        )

    def _check_playbook(self, file: str, root: Table) -> None:
        resolved, diagnostics = fragments.resolve(root, self._fragments)
        partial = build_partial(Playbook, resolved, _PLACEHOLDERS)
        diagnostics += [error_at(resolved, error) for error in partial.errors]
        playbook = partial.model
        if playbook is not None:
            playbook._source = file
            subject = CheckSubject(playbook, partial.root, self._catalogue, self._inventory, resolved)
            diagnostics += semantics.check(subject)
        name = _text(root, "name")
        if name in self._documents:
            diagnostics.append(_duplicate_name(root, self._documents[name], "playbook"))
        elif name:
            self._documents[name] = resolved
        self._diagnostics += diagnostics
        # an error in a fragment makes every playbook unusable that contains a part of it
        files = {file, *(scalar.text.file for _, scalar in walk(resolved))}
        errors = (item for item in self._diagnostics if item.severity is Severity.ERROR)
        if playbook is not None and not any(item.file in files for item in errors):
            self._playbooks[playbook.name] = playbook


def _text(root: Table, key: str) -> str:
    value = child(root, key)
    return value.value if isinstance(value, Scalar) and isinstance(value.value, str) else ""


def _duplicate_name(root: Table, first: Node, kind: str) -> Diagnostic:
    message = f"duplicate {kind} {_text(root, 'name')!r}, first defined in {first.text.file}"
    return root.entries["name"].value.diagnostic("duplicate-name", message, "rename one of the two")
