"""requirements.lock: what is installed is what was tested, wherever it comes from."""

from __future__ import annotations

import re
import tomllib

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from demo.stack.settings import ROOT

LINES = [line for line in (ROOT / "requirements.lock").read_text().splitlines() if line and not line.startswith("#")]
PINS = dict(line.split(";")[0].strip().split("==") for line in LINES)


def test_every_line_is_one_exact_version() -> None:
    """No range, no URL, no option, and so no registry."""
    assert [line for line in LINES if not re.fullmatch(r"[a-z0-9._-]+==[0-9][\w.!+]*( ; .+)?", line)] == []


def test_every_dependency_is_pinned_to_a_version_that_it_allows() -> None:
    """pyproject.toml and the lock file agree, extras included."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [
        *project["dependencies"],
        *(text for group in project["optional-dependencies"].values() for text in group),
    ]
    for requirement in map(Requirement, wanted):
        version = PINS[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), f"{requirement} is locked to {version}"
