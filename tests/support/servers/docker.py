"""An existing Docker Engine (DOCKER_HOST), with a small image and containers that are removed after the test."""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from tests.support.servers import require, until

LABEL = "remediator.test"


class Engine:
    """The Engine, used by the docker command, which is not the code under test. All its objects have ``label``."""

    def __init__(self, host: str) -> None:
        self.host = host
        self.token = uuid4().hex[:12]
        self.image = f"remediator-test/{self.token}:1"

    @property
    def labels(self) -> dict[str, str]:
        """Return the labels that select the containers of this test and no others."""
        return {LABEL: self.token}

    def cli(self, *arguments: str, given: bytes | None = None) -> str:
        """Run docker and return its output."""
        argv = [require("docker"), *arguments]
        done = subprocess.run(argv, input=given, capture_output=True, env={**os.environ, "DOCKER_HOST": self.host})
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode().strip()

    def build(self, tag: str, *changes: str) -> str:
        """Build an image that contains only busybox, with these lines of a Dockerfile. Return its name."""
        name = f"remediator-test/{self.token}:{tag}"
        flags = [part for change in changes for part in ("--change", change)]
        self.cli("import", *flags, "-", name, given=_busybox())
        return name

    def build_program(self, name: str) -> str:
        """Build an image of a local program, its libraries and busybox. Return its name. Nothing is pulled."""
        image = f"remediator-test/{self.token}:{name}"
        self.cli("import", "-", image, given=_busybox(Path(require(name))))
        return image

    def run(self, *arguments: str, image: str = "") -> str:
        """Start a container in the background and return its ID. Arguments are flags, ``---``, and a shell command."""
        flags, _, command = " ".join(arguments).partition("--- ")
        label = f"--label={LABEL}={self.token}"
        shell = ["sh", "-c", command] if command else []
        return self.cli("run", "--detach", label, *flags.split(), image or self.image, *shell)

    def until_state(self, container: str, wanted: str) -> None:
        """Wait until the container has this state, such as running or exited."""
        until(lambda: self.inspect(container, "{{.State.Status}}") == wanted, f"container {wanted}")

    def inspect(self, container: str, template: str) -> str:
        """Return a part of the description of a container."""
        return self.cli("inspect", "--format", template, container)

    def clean(self) -> None:
        """Remove all objects of the test."""
        volumes = self._volumes()
        self._remove(("ps", "--all"), ("rm", "--force", "--volumes"))
        for volume in volumes:
            self.cli("volume", "rm", "--force", volume)
        self._remove(("volume", "ls"), ("volume", "rm"))
        self._remove(("network", "ls"), ("network", "rm"))
        images = self.cli("images", "--quiet", f"remediator-test/{self.token}").split()
        if images:
            self.cli("rmi", "--force", *set(images))

    def _volumes(self) -> set[str]:
        """Return the anonymous volumes, which do not have the label."""
        template = "{{range .Mounts}}{{.Name}} {{end}}"
        containers = self.cli("ps", "--all", "--quiet", "--filter", f"label={LABEL}={self.token}").split()
        return {volume for each in containers for volume in self.inspect(each, template).split()}

    def _remove(self, listing: tuple[str, ...], removal: tuple[str, ...]) -> None:
        found = self.cli(*listing, "--quiet", "--filter", f"label={LABEL}={self.token}").split()
        if found:
            self.cli(*removal, *found)


def _busybox(*programs: Path) -> bytes:
    """Return a root filesystem with busybox under many names, and other programs with their libraries."""
    with io.BytesIO() as buffer:
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            archive.add(Path(require("busybox")).resolve(), "bin/busybox")
            for name in ("sh", "sleep", "cat", "echo", "true", "false", "tail"):
                link = tarfile.TarInfo(f"bin/{name}")
                link.type, link.linkname = tarfile.SYMTYPE, "busybox"
                archive.addfile(link)
            for program in programs:
                archive.add(program.resolve(), f"bin/{program.name}")  # may be a link whose name selects the function
                listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
                for library in dict.fromkeys(re.findall(r"(/\S+) \(0x", listed)):
                    archive.add(Path(library).resolve(), library.lstrip("/"))
            temporary = tarfile.TarInfo("tmp")
            temporary.type, temporary.mode = tarfile.DIRTYPE, 0o1777
            archive.addfile(temporary)
        return buffer.getvalue()


@pytest.fixture
def docker_engine() -> Iterator[Engine]:
    """Return the Engine that DOCKER_HOST names. The test's objects are removed after the test."""
    host = os.environ.get("DOCKER_HOST")
    if not host:
        pytest.skip("needs a Docker Engine: set DOCKER_HOST")
    if shutil.which("docker") is None:
        pytest.skip("needs the docker command")
    engine = Engine(host)
    engine.build("1", 'CMD ["sleep", "1000"]', "ENV FROM_IMAGE=one", "LABEL image=one")
    yield engine
    engine.clean()
