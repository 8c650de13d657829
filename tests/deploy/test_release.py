"""``make release`` builds the artefacts of a release from committed files, and publishes nothing."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.support.servers.remediator import ROOT


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clone the repository, because a release refuses a checkout with changes."""
    folder = tmp_path_factory.mktemp("release") / "clone"
    made = subprocess.run(
        ["git", "clone", "-q", "--depth=1", f"file://{ROOT}", folder], capture_output=True, check=False
    )
    if made.returncode:
        pytest.skip("needs a clone with history")
    return folder


def release(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the script."""
    argv = ["bash", "deploy/release.sh", sys.executable]
    return subprocess.run(argv, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.long
def test_a_release_has_checksums_and_provenance_and_is_reproducible(clone: Path) -> None:
    """Two builds of one commit give the same files."""
    done = release(clone)
    assert done.returncode == 0, done.stderr
    out = clone / "build/release"
    checked = subprocess.run(
        ["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=out, capture_output=True, check=False
    )
    assert checked.returncode == 0, checked.stderr
    sums = (out / "SHA256SUMS").read_text()
    assert {name.split(".")[-1] for name in sums.split()[1::2]} == {"whl", "gz", "lock"}
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=clone, capture_output=True, text=True, check=True).stdout
    with zipfile.ZipFile(next(out.glob("*.whl"))) as wheel:
        assert wheel.read("remediator/build.txt").decode() == commit, "--version names the build"
    statement = json.loads((out / "provenance.intoto.json").read_text())
    assert [f"{each['digest']['sha256']}  {each['name']}" for each in statement["subject"]] == sums.splitlines()

    assert release(clone).returncode == 0
    assert (out / "SHA256SUMS").read_text() == sums


def test_a_checkout_with_changes_is_refused(clone: Path) -> None:
    """A release contains exactly the committed files."""
    extra = clone / "remediator" / "extra.py"
    extra.write_text("")
    try:
        done = release(clone)
    finally:
        extra.unlink()
    assert done.returncode == 1 and "not committed" in done.stderr


def test_another_version_is_refused(clone: Path) -> None:
    """A release fails unless all files name one version and the changelog has it."""
    project = clone / "pyproject.toml"
    text = project.read_text()
    project.write_text(text.replace('version = "0.1.0"', 'version = "9.9.9"', 1))
    commit = ["git", "-c", "user.name=t", "-c", "user.email=t@example.com", "commit", "-qam", "Change the version"]
    subprocess.run(commit, cwd=clone, check=True)
    try:
        done = release(clone)
    finally:
        subprocess.run(["git", "reset", "-q", "--hard", "HEAD~1"], cwd=clone, check=False)
        project.write_text(text)
    assert done.returncode == 1 and "CHANGELOG.md has no section '## 9.9.9'" in done.stderr
