"""`make pin-images` pins every published image to the digest that the engine pulled, in all files or in none."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.deploy.test_compose import files
from tests.support.servers.docker import Engine
from tests.support.servers.remediator import ROOT

COPIED = ("docker-compose.yml", "docker-compose.prod.yml", "Dockerfile", "app/Dockerfile", "deploy")
FAKE = """\
#!/bin/bash
[ "$1" != pull ] || [ "${@: -1}" != "$BROKEN" ] || exit 1
[ "$1 $2" != "image inspect" ] || {
  image=${@: -1}
  echo "registry.example.com/mirror@sha256:$(echo -n "$image$REBUILT" | sha256sum | cut -d' ' -f1)"
}
"""
"""A stand-in for an engine that has pulled every image. The digest is the checksum of the name."""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Return a copy of the files that the command reads and writes, and an engine that answers."""
    for name in COPIED:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/docker").write_text(FAKE)
    (tmp_path / "bin/docker").chmod(0o755)
    return tmp_path


def pin(checkout: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the command in the copy."""
    environment = {"PATH": f"{checkout / 'bin'}:{os.environ['PATH']}", **variables}
    argv = ["bash", str(checkout / "deploy/pin_images.sh"), *arguments]
    return subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)


def contents(checkout: Path) -> dict[Path, str]:
    """Return the contents of all files of the copy."""
    return {path: path.read_text() for path in sorted(checkout.rglob("*")) if path.is_file()}


def test_every_published_image_is_pinned(checkout: Path) -> None:
    """In all files, only the digests change, and a second run changes nothing."""
    before = contents(checkout)
    assert pin(checkout, "--check").returncode == 1
    done = pin(checkout)
    assert done.returncode == 0, done.stderr
    after = contents(checkout)
    assert {path: re.sub(r"@sha256:[0-9a-f]{64}", "", text) for path, text in after.items()} == before
    text = "".join(after.values())
    used = {body["image"] for body in files("docker-compose.yml", "docker-compose.prod.yml").values()}
    for image in {re.sub("@.*", "", each) for each in used if not each.startswith(("remediator", "${"))}:
        assert f"{image}@sha256:{hashlib.sha256(image.encode()).hexdigest()}" in text
        assert not re.search(rf"{re.escape(image)}$", text, re.MULTILINE), image
    assert pin(checkout, "--check").returncode == 0
    assert pin(checkout).returncode == 0 and contents(checkout) == after


def test_a_rebuilt_tag_gets_its_new_digest(checkout: Path) -> None:
    """The new digest replaces the old one."""
    pin(checkout)
    once = contents(checkout)
    assert pin(checkout, REBUILT="again").returncode == 0
    twice = contents(checkout)
    assert once != twice and not any(re.search(r"sha256:\w+@", text) for text in twice.values())


def test_an_image_that_cannot_be_pulled_leaves_all_files_alone(checkout: Path) -> None:
    """If an image cannot be pulled, the error names its tag, and no file changes."""
    before = contents(checkout)
    image = files("docker-compose.yml", "docker-compose.prod.yml")["postgres"]["image"].partition("@")[0]
    done = pin(checkout, BROKEN=image)
    assert done.returncode == 1 and f"{image} cannot be pulled; nothing was changed" in done.stderr
    assert contents(checkout) == before


@pytest.mark.docker
def test_a_real_engine_that_reaches_no_registry(checkout: Path, docker_engine: Engine) -> None:
    """Without a registry, the error is one sentence, and nothing is changed."""
    (checkout / "bin/docker").unlink()
    before = contents(checkout)
    compose = checkout / "docker-compose.yml"
    compose.write_text(re.sub(r"image: redis:\S+", "image: registry.invalid/redis:7.2.16", compose.read_text()))
    changed = contents(checkout)
    done = pin(checkout, DOCKER_HOST=docker_engine.host)
    assert done.returncode == 1 and "nothing was changed" in done.stderr and before != changed == contents(checkout)
