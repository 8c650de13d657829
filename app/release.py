"""The current release: a directory with a `RELEASE` file and optionally a `release.toml`."""

import importlib
import tomllib
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from app.faults import Faults
from app.settings import SettingsError


class Release(BaseModel):
    """Contents of a release directory.

    `modules` are imported at start. `requires` are required environment variables. `faults` belong to the release: only
    another release removes them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: str = "dev"
    modules: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()
    faults: Faults = Faults()

    def require_variables(self, environment: Mapping[str, str]) -> None:
        """Raise SettingsError with all missing variables of `requires`."""
        missing = [name for name in self.requires if not environment.get(name)]
        if missing:
            raise SettingsError("\n".join(f"{name}: required by release {self.version}, not set" for name in missing))

    def import_modules(self) -> None:
        """Import the modules. Raise ModuleNotFoundError if one is not installed."""
        for name in self.modules:
            importlib.import_module(name)


def read_release(folder: Path, *, faults_enabled: bool) -> Release:
    """Return the release in `folder`. Raise SettingsError if it is malformed, or has faults that are not enabled."""
    try:
        version, manifest = folder / "RELEASE", folder / "release.toml"
        content: dict[str, object] = tomllib.loads(manifest.read_text()) if manifest.exists() else {}
        if version.exists():
            content["version"] = version.read_text().strip()
        release = Release.model_validate(content)
    except (ValidationError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{folder / 'release.toml'}: {error}") from None
    if release.faults.any() and not faults_enabled:
        raise SettingsError(f"release {release.version} contains faults, but SHOP_FAULTS_ENABLED is false")
    return release
