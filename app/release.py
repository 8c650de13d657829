"""The release that runs: a folder with a `RELEASE` file and, if need be, a `release.toml`."""

import importlib
import tomllib
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from app.faults import Faults
from app.settings import SettingsError


class Release(BaseModel):
    """What a release folder says about itself.

    `modules` are imported at start, `requires` are environment variables without which the release does not start,
    `faults` are part of the release: no call takes them away, only another release does.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: str = "dev"
    modules: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()
    faults: Faults = Faults()

    def demand(self, environment: Mapping[str, str]) -> None:
        """Raises SettingsError that names every variable that the release requires and that is not set."""
        missing = [name for name in self.requires if not environment.get(name)]
        if missing:
            raise SettingsError("\n".join(f"{name}: required by release {self.version}, not set" for name in missing))

    def import_modules(self) -> None:
        """Raises ModuleNotFoundError when the release needs a module that is not installed."""
        for name in self.modules:
            importlib.import_module(name)


def read_release(folder: Path, *, faults_enabled: bool) -> Release:
    """The release in `folder`. Raises SettingsError when it is malformed or carries faults that are not allowed."""
    try:
        release = Release.model_validate(_manifest(folder) | _version(folder))
    except (ValidationError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{folder / 'release.toml'}: {error}") from None
    if release.faults.any() and not faults_enabled:
        raise SettingsError(f"release {release.version} carries faults, and FAULTS_ENABLED is false")
    return release


def _version(folder: Path) -> dict[str, str]:
    file = folder / "RELEASE"
    return {"version": file.read_text().strip()} if file.exists() else {}


def _manifest(folder: Path) -> dict[str, object]:
    file = folder / "release.toml"
    return tomllib.loads(file.read_text()) if file.exists() else {}
