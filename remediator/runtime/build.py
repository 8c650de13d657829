"""The commit of this build, for ``--version`` and the metric ``remediator_build_info``."""

from __future__ import annotations

import json
import os
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path


def build_id() -> str:
    """Return the commit of this build; empty if it is not known.

    The container image sets ``REMEDIATOR_BUILD``. A release and a Debian package contain the file ``build.txt``. pip
    records the commit of a package from a repository. A checkout has its commit in ``.git``.
    """
    if os.environ.get("REMEDIATOR_BUILD"):
        return os.environ["REMEDIATOR_BUILD"]
    built = Path(__file__).parents[1] / "build.txt"
    if built.is_file():
        return built.read_text(encoding="utf-8").strip()[:12]
    try:
        origin = json.loads(distribution("remediator").read_text("direct_url.json") or "{}")
    except (PackageNotFoundError, ValueError):
        origin = {}
    commit = origin.get("vcs_info", {}).get("commit_id") or _commit_of(Path(__file__).parents[2])
    return str(commit)[:12]


def _commit_of(checkout: Path) -> str:
    """Return the current commit of a checkout without running git; empty if there is no checkout."""
    folder = checkout / ".git"
    try:
        if folder.is_file():  # in a linked worktree, .git is a file
            folder = checkout / folder.read_text(encoding="utf-8").partition(":")[2].strip()
        head = (folder / "HEAD").read_text(encoding="utf-8").strip()
        if not head.startswith("ref: "):
            return head
        common = folder / "commondir"
        root = (folder / common.read_text(encoding="utf-8").strip()) if common.is_file() else folder
        name = head.removeprefix("ref: ")
        if (root / name).is_file():
            return (root / name).read_text(encoding="utf-8").strip()
        packed = (root / "packed-refs").read_text(encoding="utf-8").splitlines()
        return next((line.split()[0] for line in packed if line.endswith(f" {name}")), "")
    except OSError:
        return ""
