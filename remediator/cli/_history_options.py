"""Shared parts of ``playbook replay`` and ``playbook backtest``: which playbooks to compare, and the output."""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click

from remediator.authoring.backtest import Event, History, results
from remediator.authoring.backtest.replay import replay
from remediator.cli import _output
from remediator.config import Config
from remediator.errors import ConfigurationError
from remediator.extensions.registry import Registry
from remediator.playbooks.loader import LoadedConfig, load
from remediator.runtime.live_inventory import with_targets_of

_OPTIONS = (
    click.option(
        "--playbooks",
        multiple=True,
        type=click.Path(path_type=Path, exists=True),
        help="Playbook file or folder; can be repeated (default: the active playbooks).",
    ),
    click.option("--against", metavar="PATH|GIT_REF", help="Other version to compare with (default: none)."),
    click.option(
        "--svg", type=click.Path(path_type=Path, dir_okay=False), help="File to write a chart to (default: no chart)."
    ),
)


def history_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that both commands have."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@dataclass(frozen=True, slots=True)
class Comparison:
    """The options of a replay or a backtest."""

    config: Config
    playbooks: tuple[Path, ...]
    against: str | None
    svg: Path | None
    format: str


def show(options: Comparison, history: History) -> None:
    """Run the history through the playbooks, and print the result."""
    paths = options.playbooks or tuple(options.config.playbooks)
    after = replay(history, _loaded(options.config, paths), options.config, _counted)
    before = None
    if options.against is not None and Path(options.against).exists():
        before = replay(history, _loaded(options.config, [Path(options.against)]), options.config, _counted)
    elif options.against is not None:
        with _at_ref(paths, options.against) as old:
            before = replay(history, _loaded(options.config, old), options.config, _counted)
    if options.svg is not None:
        options.svg.write_text(results.svg(after), encoding="utf-8")
    if options.format == "json":
        data: dict[str, Any] = results.figures(after)
        if before is not None:
            data |= {"against": results.figures(before), "difference": results.difference(before, after)}
        _output.data(data)
        return
    _output.echo(results.text(after))
    if before is not None:
        _output.echo(f"\nagainst {options.against}:\n{results.difference_text(results.difference(before, after))}")


def _counted(events: Sequence[Event]) -> Iterator[Event]:
    return _output.counted(events, "running the history through the playbooks", len(events), step=20)


def _loaded(config: Config, paths: Sequence[Path]) -> LoadedConfig:
    loaded = load(paths, config.inventory, Registry.for_settings(config).catalogue())
    return replace(loaded, inventory=with_targets_of(config, loaded.inventory))


@contextmanager
def _at_ref(paths: Sequence[Path], ref: str) -> Iterator[list[Path]]:
    """Extract the same files and folders at a git ref; yield their paths."""
    top = Path(_git(paths[0], "rev-parse", "--show-toplevel").decode().strip())
    inside = [path.resolve().relative_to(top.resolve()) for path in paths]
    tree = _git(top, "rev-parse", "--verify", "--end-of-options", f"{ref}^{{tree}}").decode().strip()
    archive = _git(top, "archive", "--format=tar", tree, "--", *map(str, inside))
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(fileobj=io.BytesIO(archive)) as packed:
            # Debian 12's Python has no filter="data" yet; an archive of git has safe paths, but it may have links
            packed.extractall(folder, [each for each in packed if each.isfile() or each.isdir()])  # noqa: S202
        yield [Path(folder) / path for path in inside]


def _git(near: Path, *arguments: str) -> bytes:
    folder = near if near.is_dir() else near.parent
    try:
        argv = [shutil.which("git") or "git", "-C", str(folder), *arguments]
        done = subprocess.run(argv, capture_output=True, check=True, timeout=60)  # noqa: S603 - no shell
    except FileNotFoundError:
        raise ConfigurationError("--against: no such path, and git is not installed; give a path") from None
    except subprocess.SubprocessError as error:
        said = getattr(error, "stderr", b"") or b""
        raise ConfigurationError(
            f"--against: no such path or git ref: {said.decode(errors='replace').strip()}"
        ) from None
    return done.stdout
