"""Secret files: they exist, are not empty, and other users cannot read them."""

from __future__ import annotations

import os
import stat
from collections.abc import AsyncIterator
from pathlib import Path

from remediator.audit.secret_files import secret_files
from remediator.authoring.doctor.base import DoctorCheck, Examination, Result, failed, ok, warning
from remediator.authoring.lint.rules_settings import MOUNTED
from remediator.core.local_files import read_text


class Secrets(DoctorCheck):
    """Reads every secret file that the settings or the inventory name."""

    name = "secrets"

    async def run(self, about: Examination) -> AsyncIterator[Result]:
        models = (about.config, about.loaded.inventory, *about.registry.models(about.config))
        files = sorted({path for model in models for path in secret_files(model)})
        for path in files:
            yield examine(path)
        if about.config.state.is_dir():
            yield examine_folder(about.config.state)
        if not files:
            yield ok("files", "the settings name no secret files")


def examine(path: Path) -> Result:
    """Return whether one secret file can be used."""
    try:
        content = read_text(path).strip()
        mode = stat.S_IMODE(path.stat().st_mode)
    except FileNotFoundError:
        return failed(str(path), "does not exist", "create it, or correct its path in the settings or the inventory")
    except (OSError, UnicodeDecodeError) as error:
        return failed(str(path), f"cannot be read: {error}", "give the user of the service read access to the file")
    if not content:
        return failed(str(path), "is empty", "write the secret into it, on one line")
    if mode & 0o077 and not str(path.resolve()).startswith(MOUNTED):
        return warning(str(path), f"other users can use it (mode {mode:04o})", f"run: chmod 600 {path}")
    return ok(str(path), f"readable, mode {mode:04o}")


def examine_folder(path: Path) -> Result:
    """Return whether other users can read or change the state folder, which holds the database and keys."""
    seen = path.stat()
    mode = stat.S_IMODE(seen.st_mode)
    if seen.st_uid not in (0, os.geteuid()):
        return warning(
            str(path), f"belongs to user {seen.st_uid}, who can replace its files", f"run: chown $USER {path}"
        )
    if mode & 0o077:
        return warning(str(path), f"other users can use the state folder (mode {mode:04o})", f"run: chmod 700 {path}")
    return ok(str(path), f"state folder, mode {mode:04o}")
