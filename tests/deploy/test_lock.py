"""The lock files pin every package by version and hash, as tested, with a known licence."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from demo.stack.settings import ROOT
from tests.support import supply_chain
from tests.support.supply_chain import DEMO, DEVELOPMENT, RUNTIME, pins

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
LOCKS = {RUNTIME: ["postgres"], DEMO: ["postgres", "app", "stack"], DEVELOPMENT: list(EXTRAS)}


@pytest.mark.parametrize("lock", LOCKS)
def test_every_package_has_one_version_and_hashes(lock: str) -> None:
    """Lock files have no range, URL or option, hence no registry, and pip refuses a file with another hash."""
    lines = [line.strip() for line in (ROOT / lock).read_text().splitlines() if line and not line.startswith("#")]
    pattern = r"([a-z0-9._-]+==[0-9][\w.!+]*( ; .+)?|--hash=sha256:[0-9a-f]{64})( \\)?"
    assert [line for line in lines if not re.fullmatch(pattern, line)] == []
    assert [name for name, (_, hashes) in pins(lock).items() if not hashes] == []


@pytest.mark.parametrize(("lock", "extras"), LOCKS.items())
def test_every_dependency_is_pinned_to_a_version_that_it_allows(lock: str, extras: list[str]) -> None:
    """pyproject.toml and the lock file agree."""
    for text in [*PROJECT["dependencies"], *(each for name in extras for each in EXTRAS[name])]:
        requirement = Requirement(text)
        version = pins(lock)[canonicalize_name(requirement.name)][0]
        assert requirement.specifier.contains(version), f"{requirement} is locked to {version} in {lock}"


def test_runtime_is_apart_from_tests_and_has_the_same_versions() -> None:
    """The runtime lock has no package that only tests need, and the same versions."""
    runtime, development = pins(RUNTIME), pins(DEVELOPMENT)
    assert {name: pin for name, pin in runtime.items() if development[name][0] != pin[0]} == {}
    assert not {"pytest", "hypothesis", "moto", "ruff", "mypy", "fastapi"} & runtime.keys()


@pytest.mark.parametrize("path", ["Dockerfile", "app/Dockerfile", "deploy/setup.sh"])
def test_every_installation_requires_the_hashes(path: str) -> None:
    """No installation takes a package from an index without its hash."""
    installs = [line for line in (ROOT / path).read_text().splitlines() if " install " in line and "pip" in line]
    assert installs
    for line in installs:
        assert "--require-hashes" in line or "--no-deps" in line or "apt-get" in line, line


def test_the_licence_list_is_that_of_the_lock_files() -> None:
    """Every package has a licence. Those under the GPL are listed with the reason."""
    page = (ROOT / "docs/licences.md").read_text()
    assert page == supply_chain.licences_page(), "run: python -m tests.support.supply_chain licences"
    assert "unknown" not in page
    gpl = {name for name in pins(DEVELOPMENT) if re.match(r"(A?GPL|GNU (Affero )?General)", supply_chain.licence(name))}
    assert gpl == supply_chain.COPYLEFT.keys()
    assert not gpl & pins(RUNTIME).keys()


def test_the_bill_of_materials_names_what_the_image_contains() -> None:
    """The CycloneDX file has version, package URL, licence and hashes of each package."""
    made = supply_chain.sbom()
    assert (made["bomFormat"], made["specVersion"]) == ("CycloneDX", "1.6")
    assert {item["name"]: item["version"] for item in made["components"]} == {
        name: version for name, (version, _) in pins(RUNTIME).items()
    }
    assert all(item["hashes"] and item["purl"].startswith("pkg:pypi/") for item in made["components"])
    assert made == supply_chain.sbom(), "the same lock file gives the same SBOM"


@pytest.mark.parametrize(
    ("answer", "status", "told"),
    [
        ("", 2, "no advisory data was reached"),
        (json.dumps({"dependencies": [{"name": "a", "skip_reason": "not found"}]}), 2, "nothing was audited"),
        (json.dumps({"dependencies": [{"name": "a", "version": "1", "vulns": []}]}), 0, "1 of 1 packages"),
        (
            json.dumps(
                {"dependencies": [{"name": "a", "version": "1", "vulns": [{"id": "X-1", "fix_versions": ["2"]}]}]}
            ),
            1,
            "a 1: X-1, fixed in 2",
        ),
    ],
)
def test_the_audit_says_when_it_has_no_data(
    answer: str, status: int, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The audit distinguishes "no finding" from "no data"."""
    assert supply_chain.judge(answer, "") == status
    assert told in capsys.readouterr().out


def test_the_image_runs_as_a_user_with_a_health_check() -> None:
    """No shipped image runs as root, and each has a health check."""
    for path in (Path("Dockerfile"), Path("app/Dockerfile")):
        text = (ROOT / path).read_text()
        assert re.search(r"^USER [1-9]\d*:[1-9]\d*$", text, re.MULTILINE), path
        assert "\nHEALTHCHECK " in text, path
