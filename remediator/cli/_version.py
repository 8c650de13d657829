"""The text of ``remediator --version``: version, build, and the versions that decide what it can do."""

from __future__ import annotations

import platform
import sqlite3

from remediator import __version__
from remediator.runtime.build import build_id


def version_text() -> str:
    """Return version and build on the first line, and the versions of Python and SQLite on the second."""
    build = build_id()
    return (
        f"remediator {__version__}{f' (build {build})' if build else ''}\n"
        f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, {platform.machine()}"
    )
