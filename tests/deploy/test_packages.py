"""The wheel, the systemd units and the Debian package can be built, installed and used."""

from __future__ import annotations

import os
import re
import shutil
import site
import subprocess
import sys
import urllib.request
import zipfile
from pathlib import Path

import pytest

from tests.support.servers import DEADLINE, accepts, free_port, require, until
from tests.support.servers.remediator import ROOT

UNIT = ROOT / "deploy/systemd/remediator.service"
MAX_EXPOSURE = 1.5
"""Highest result of ``systemd-analyze security``: 0 is best and 10 worst. A unit without any limit has 9.6."""


def run(*argv: str | Path, **more: object) -> subprocess.CompletedProcess[str]:
    """Run a program and return its result."""
    return subprocess.run([str(each) for each in argv], capture_output=True, text=True, check=False, **more)  # type: ignore[call-overload, no-any-return]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel without a network, with the build tools of this environment."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    names = ("remediator", "docs/man", "pyproject.toml", "README.md", "LICENSE", "requirements.lock")
    for name in names:
        target = source / name
        target.parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, target)
    argv = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q", "-w", folder, source]
    made = run(*argv)
    assert made.returncode == 0, made.stdout + made.stderr
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel into a separate environment, which takes only the dependencies from this one."""
    folder = tmp_path_factory.mktemp("environment")
    assert run(sys.executable, "-m", "venv", "--without-pip", folder).returncode == 0
    python = folder / "bin/python"
    argv = [sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps", "--no-index", wheel]
    made = run(*argv)
    assert made.returncode == 0, made.stderr
    packages = run(python, "-c", "import site; print(site.getsitepackages()[0])").stdout.strip()
    # names in the new environment come before those of the path file, so its editable install is not used
    (Path(packages) / "dependencies.pth").write_text("\n".join(site.getsitepackages()))
    return folder


def test_the_wheel_has_the_package_its_data_and_nothing_else(wheel: Path) -> None:
    """The wheel has templates, schemas and the manual page, but neither tests nor the demonstration app."""
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.startswith("remediator")} == set()
    for wanted in ("templates/playbook.yaml", "web/static/", "py.typed", "share/man/man1/remediator.1", "migrations/"):
        assert any(wanted in name for name in names), wanted
    metadata = zipfile.ZipFile(wheel).read(next(name for name in names if name.endswith("METADATA"))).decode()
    extras = set(re.findall(r"^Provides-Extra: (\S+)", metadata, re.MULTILINE))
    assert {"postgres", "s3", "oidc", "calendar", "apprise"} <= extras


@pytest.mark.long
def test_the_installed_command_works(installed: Path, tmp_path: Path) -> None:
    """The command starts without the checkout, prints its version, and writes a playbook from its templates."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    command = installed / "bin/remediator"
    shown = run(command, "--version", env=environment, cwd=tmp_path)
    assert shown.returncode == 0 and "remediator" in shown.stdout, shown.stderr
    code = "import remediator; print(remediator.__file__)"
    where = run(installed / "bin/python", "-c", code, env=environment, cwd=tmp_path)
    assert str(installed) in where.stdout
    services = "services:\n  shop: {platform: {kind: systemd, unit: shop.service}}\n"
    (tmp_path / "inventory.yaml").write_text(f"apiVersion: remediator/v1\nkind: Inventory\n{services}")
    made = run(command, "playbook", "new", "shop-down", env=environment, cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    tested = run(command, "test", env=environment, cwd=tmp_path)
    assert tested.returncode == 0, tested.stdout + tested.stderr


@pytest.fixture(scope="module")
def packages(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the wheel and its locked dependencies: the package index of docs/deployment.md."""
    folder = tmp_path_factory.mktemp("packages")
    argv = [sys.executable, "-m", "pip", "download", "-q", "--require-hashes", "-r", ROOT / "requirements.lock"]
    done = run(*argv, "-d", folder)
    if "Could not find a version" in done.stderr or "Connection" in done.stderr:
        pytest.skip("needs a package index")
    assert done.returncode == 0, done.stderr
    shutil.copy(wheel, folder)
    return folder


@pytest.mark.long
@pytest.mark.process
@pytest.mark.parametrize("tool", ["pipx", "uvx"])
def test_the_command_comes_from_a_folder_of_packages(tool: str, packages: Path, tmp_path: Path) -> None:
    """The locked dependencies are complete: the installation needs no other index."""
    if shutil.which(tool) is None:
        pytest.skip(f"needs {tool}")
    environment = {
        **{name: value for name, value in os.environ.items() if name in ("PATH", "LANG")},
        **{"HOME": str(tmp_path), "PIPX_HOME": str(tmp_path / "pipx"), "PIPX_BIN_DIR": str(tmp_path / "bin")},
        **{"PIP_CONFIG_FILE": os.devnull, "UV_CACHE_DIR": str(tmp_path / "cache"), "UV_NO_CONFIG": "1"},
    }
    if tool == "pipx":
        options = f"--no-index --find-links {packages}"
        done = run("pipx", "install", f"--pip-args={options}", "remediator", env=environment, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        command: tuple[str | Path, ...] = (tmp_path / "bin/remediator",)
    else:
        command = ("uvx", "--python", sys.executable, "--no-index", "--find-links", packages, "remediator")
    shown = run(*command, "--version", env=environment, cwd=tmp_path)
    assert shown.returncode == 0 and shown.stdout.startswith("remediator "), shown.stderr
    made = run(*command, "completion", "bash", env=environment, cwd=tmp_path)
    assert made.returncode == 0 and "_REMEDIATOR_COMPLETE" in made.stdout, made.stderr


@pytest.mark.long
def test_systemd_opens_the_port_and_the_first_connection_starts_the_service(installed: Path, tmp_path: Path) -> None:
    """With ``listen: systemd``, systemd's own tool for socket activation starts the installed command."""
    activate, port = require("systemd-socket-activate"), free_port()
    (tmp_path / "playbooks").mkdir()
    (tmp_path / "inventory.yaml").write_text("apiVersion: remediator/v1\nkind: Inventory\nservices: {}\n")
    (tmp_path / "webhook.token").write_text("a-token-for-this-test-only\n")
    (tmp_path / "webhook.token").chmod(0o600)
    settings = f"apiVersion: remediator/v1\nkind: Config\nlisten: systemd\npublic_url: http://127.0.0.1:{port}\n"
    settings += "state: state\nplaybooks: [playbooks]\ninventory: inventory.yaml\n"
    settings += "webhook: {token_file: webhook.token}\n"
    (tmp_path / "remediator.yaml").write_text(settings)
    argv = [activate, f"--listen=127.0.0.1:{port}", str(installed / "bin/remediator"), "serve"]
    with (tmp_path / "log").open("wb") as log:
        service = subprocess.Popen(argv, cwd=tmp_path, stdout=log, stderr=log, env={"PATH": os.environ["PATH"]})
    try:
        until(lambda: accepts(("127.0.0.1", port)), "systemd listens")
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/livez", timeout=60) as answer:
            assert answer.status == 200
    finally:
        service.terminate()
        service.wait(DEADLINE)
    assert '"listen": ["systemd"]' in (tmp_path / "log").read_text()


def test_systemd_accepts_the_unit_and_finds_it_hardened(tmp_path: Path) -> None:
    """``systemd-analyze verify`` finds no error in service and socket, and the exposure level stays low."""
    analyze = require("systemd-analyze")
    text = UNIT.read_text().replace("/opt/remediator/bin/remediator", "/bin/true")
    unit = tmp_path / "remediator.service"
    unit.write_text("\n".join(line for line in text.splitlines() if not line.startswith("Documentation=")))
    opened = UNIT.with_suffix(".socket").read_text().replace("Documentation=man:remediator(1)\n", "")
    (tmp_path / "remediator.socket").write_text(opened)
    verified = run(analyze, "verify", unit, tmp_path / "remediator.socket")
    assert (verified.returncode, verified.stdout + verified.stderr) == (0, "")
    examined = run(analyze, "security", "--offline=true", "--no-pager", unit)
    found = re.search(r"exposure level for \S+ ([\d.]+)", examined.stdout)
    assert found is not None, examined.stdout + examined.stderr
    assert float(found[1]) <= MAX_EXPOSURE


def test_users_and_folders_can_be_created(tmp_path: Path) -> None:
    """The tools of systemd create users and folders in an empty root."""
    for folder, name in (("sysusers.d", "sysusers.conf"), ("tmpfiles.d", "tmpfiles.conf")):
        (tmp_path / "usr/lib" / folder).mkdir(parents=True)
        shutil.copy(UNIT.parent / name, tmp_path / "usr/lib" / folder / "remediator.conf")
    (tmp_path / "etc").mkdir()
    users = run(require("systemd-sysusers"), f"--root={tmp_path}", "remediator.conf")
    assert users.returncode == 0, users.stderr
    assert "remediator:x:" in (tmp_path / "etc/passwd").read_text()
    folders = run(require("systemd-tmpfiles"), f"--root={tmp_path}", "--create", "remediator.conf")
    assert folders.returncode == 0, folders.stderr
    assert (tmp_path / "etc/remediator/secrets").stat().st_mode & 0o777 == 0o700


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the Debian package from a copy of the files, with the locked dependencies of a package index."""
    require("dpkg-deb")
    folder = tmp_path_factory.mktemp("debian")
    for name in ("remediator", "docs/man", "deploy", "pyproject.toml", "README.md", "LICENSE", "requirements.lock"):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, target)
    environment = {**os.environ, "SOURCE_DATE_EPOCH": "1767225600"}
    made = run("bash", folder / "deploy/debian/build.sh", sys.executable, env=environment)
    if "Could not find a version" in made.stderr or "Connection" in made.stderr:
        pytest.skip("needs a package index")
    assert made.returncode == 0, made.stderr
    return next((folder / "build").glob("*.deb"))


@pytest.mark.long
@pytest.mark.process
def test_the_debian_package_is_complete_and_its_command_works(package: Path, tmp_path: Path) -> None:
    """The package has command, unit, manual page and an environment that needs only Debian's Python."""
    fields = run("dpkg-deb", "--field", package).stdout
    assert re.search(r"^Depends: python3 \(>= 3\.\d+\), python3 \(<< 3\.\d+\)$", fields, re.MULTILINE), fields
    root = tmp_path / "root"
    assert run("dpkg-deb", "--extract", package, root).returncode == 0
    assert sorted(path.name for path in (root / "opt/remediator/bin").iterdir() if not path.is_symlink()) == [
        "remediator"
    ]
    assert (root / "opt/remediator/bin/remediator").read_text().startswith("#!/opt/remediator/bin/python3\n")
    assert (root / "usr/bin/remediator").readlink() == Path("/opt/remediator/bin/remediator")
    assert (
        "ExecStart=/opt/remediator/bin/remediator serve"
        in (root / "usr/lib/systemd/system/remediator.service").read_text()
    )
    assert (root / "usr/lib/systemd/system/remediator.socket").is_file()
    assert (root / "usr/share/man/man1/remediator.1.gz").is_file()
    assert list(root.rglob("__pycache__")) == []
    built = str(package.parent)
    assert [path for path in (root / "opt/remediator/bin").iterdir() if built in os.path.realpath(path)] == []

    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    python = root / "opt/remediator/bin/python3"
    shown = run(python, "-m", "remediator", "--version", env=environment, cwd=tmp_path)
    assert shown.returncode == 0 and "remediator" in shown.stdout, shown.stderr
    checked = run(python, "-m", "remediator", "config", "check", env=environment, cwd=tmp_path)
    assert "remediator.yaml" in checked.stderr
    assert "Traceback" not in checked.stderr


@pytest.mark.long
@pytest.mark.process
def test_the_debian_package_keeps_the_state_and_starts_nothing(package: Path, tmp_path: Path) -> None:
    """An installation does not enable the unit, and no script removes the audit log."""
    assert run("dpkg-deb", "--control", package, tmp_path).returncode == 0
    scripts = {name: (tmp_path / name).read_text() for name in ("postinst", "prerm", "postrm")}
    for name, text in scripts.items():
        assert "/var/lib" not in "".join(line for line in text.splitlines() if not line.startswith("#")), name
        assert run("sh", "-n", tmp_path / name).returncode == 0
    assert not re.search(r"systemctl.* (enable|start)\b", scripts["postinst"])
