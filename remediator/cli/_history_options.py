"""What ``replay`` and ``backtest`` share: which playbooks, against which, and how it is shown."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from remediator.authoring.backtest import History, Outcome, results
from remediator.authoring.backtest.replay import would_have
from remediator.config import Config
from remediator.errors import ConfigurationError
from remediator.extensions.registry import Registry
from remediator.playbooks.loader import LoadedConfig, load

_OPTIONS = (
    click.option("--since", default="30d", show_default=True, help="How far back."),
    click.option(
        "--playbooks", multiple=True, type=click.Path(path_type=Path, exists=True), help="Instead of those in force."
    ),
    click.option("--against", help="Another version to compare with: a path, or a git ref."),
    click.option("--svg", type=click.Path(path_type=Path, dir_okay=False), help="Write the chart into this file."),
)


def history_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that both commands have."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked for."""

    config: Config
    playbooks: tuple[Path, ...]
    against: str | None
    svg: Path | None
    format: str


def show(asked: Asked, history: History) -> None:
    """Walk the history, and print what came of it."""
    paths = asked.playbooks or tuple(asked.config.playbooks)
    after = would_have(history, _loaded(asked.config, paths), asked.config)
    before = None if asked.against is None else _before(asked, paths, asked.against, history)
    if asked.svg is not None:
        asked.svg.write_text(results.svg(after), encoding="utf-8")
    if asked.format == "json":
        data: dict[str, Any] = results.figures(after)
        if before is not None:
            data |= {"against": results.figures(before), "difference": results.difference(before, after)}
        click.echo(json.dumps(data, indent=2))
        return
    click.echo(results.text(after))
    if before is not None:
        click.echo(f"\nagainst {asked.against}:\n{results.difference_text(results.difference(before, after))}")


def _before(asked: Asked, paths: Sequence[Path], against: str, history: History) -> Outcome:
    if Path(against).exists():
        return would_have(history, _loaded(asked.config, [Path(against)]), asked.config)
    with _at_ref(paths, against) as old:
        return would_have(history, _loaded(asked.config, old), asked.config)


def _loaded(config: Config, paths: Sequence[Path]) -> LoadedConfig:
    return load(paths, config.inventory, Registry.load(config.plugins).catalogue())


@contextmanager
def _at_ref(paths: Sequence[Path], ref: str) -> Iterator[list[Path]]:
    """The same files and folders as they were in git."""
    top = Path(_git(paths[0], "rev-parse", "--show-toplevel").decode().strip())
    inside = [path.resolve().relative_to(top.resolve()) for path in paths]
    tree = _git(top, "rev-parse", "--verify", "--end-of-options", f"{ref}^{{tree}}").decode().strip()
    archive = _git(top, "archive", "--format=tar", tree, "--", *map(str, inside))
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(fileobj=io.BytesIO(archive)) as packed:
            # Debian 12's Python has no filter="data" yet; what git packs leads nowhere else, but for its links
            packed.extractall(folder, [one for one in packed if one.isfile() or one.isdir()])  # noqa: S202
        yield [Path(folder) / path for path in inside]


def _git(near: Path, *arguments: str) -> bytes:
    folder = near if near.is_dir() else near.parent
    try:
        argv = [shutil.which("git") or "git", "-C", str(folder), *arguments]
        done = subprocess.run(argv, capture_output=True, check=True, timeout=60)  # noqa: S603 - no shell, fixed words
    except FileNotFoundError:
        raise ConfigurationError("--against: git is not installed, and there is no such path") from None
    except subprocess.SubprocessError as error:
        said = getattr(error, "stderr", b"") or b""
        raise ConfigurationError(
            f"--against: no such path, and git says: {said.decode(errors='replace').strip()}"
        ) from None
    return done.stdout
