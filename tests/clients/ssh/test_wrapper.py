"""remediator-remote: one file for old Python versions, which checks its input strictly."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from remediator.clients.ssh.bundle import wrapper_text

ATTEMPT = {"verb": "command", "command": "touch", "argv": ["/usr/bin/touch"], "attempt": "a-1", "number": 0}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Return the folder of a host with the wrapper and one allowed command."""
    (tmp_path / "remediator-remote").write_text(wrapper_text())
    command = {"argv": ["/usr/bin/touch", "{name}"], "parameters": {"name": "/.*"}}
    allowed = {"state": str(tmp_path / "markers"), "units": {}, "commands": {"touch": command}}
    (tmp_path / "allow.json").write_text(json.dumps(allowed))
    return tmp_path


def ask(
    place: Path, content: bytes, *, python: str = sys.executable, word: str = "remediator-remote"
) -> Iterator[dict[str, Any]]:
    """Send a request to the wrapper, and yield the lines of its answer."""
    argv = [python, "-IS", str(place / "remediator-remote"), str(place / "allow.json")]
    done = subprocess.run(argv, input=content, capture_output=True, env={"SSH_ORIGINAL_COMMAND": word}, timeout=60)
    assert done.stderr == b"", done.stderr.decode()
    yield from map(json.loads, done.stdout.splitlines())


def touch(place: Path, **changes: Any) -> dict[str, Any]:
    """Return a request that creates a file."""
    file = str(place / "touched")
    return {**ATTEMPT, "values": {"name": file}, "argv": ["/usr/bin/touch", file], **changes}


def line(request: dict[str, Any]) -> bytes:
    return json.dumps(request).encode() + b"\n"


def test_it_is_one_file_for_python_3_6() -> None:
    """The file uses the grammar of Python 3.6 and imports only the standard library."""
    tree = ast.parse(wrapper_text(), feature_version=(3, 6))
    modules = {each.name for node in ast.walk(tree) if isinstance(node, ast.Import) for each in node.names}
    modules |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}

    assert modules <= set(sys.stdlib_module_names) - {"dataclasses", "__future__"}
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.NamedExpr)]


def test_no_name_is_missing_on_the_host() -> None:
    """The file lacks imports of other modules of the package, so its code uses no name from them."""
    tree = ast.parse(wrapper_text())
    for node in ast.walk(tree):  # annotations are strings in the file and are never evaluated
        if isinstance(node, ast.arg):
            node.annotation = None
        elif isinstance(node, ast.FunctionDef):
            node.returns = None
        elif isinstance(node, ast.AnnAssign):
            node.annotation = ast.Name("object")
    argv = [sys.executable, "-m", "ruff", "check", "--isolated", "--select", "F821", "--output-format", "concise", "-"]
    found = subprocess.run(argv, input=ast.unparse(tree), capture_output=True, text=True, timeout=60)
    assert found.returncode == 0, found.stdout


@pytest.mark.parametrize("version", ["3.6", "3.7", "3.8", "3.9", "3.10", "3.12", "3.13"])
def test_it_runs_with_other_pythons(place: Path, version: str) -> None:
    """The file runs with every Python that is installed on this machine."""
    installed = [shutil.which(f"python{version}"), *Path.home().glob(f".pyenv/versions/{version}.*/bin/python")]
    usable = [each for each in installed if each and not subprocess.run([each, "-V"], capture_output=True).returncode]
    if not usable:
        pytest.skip(f"needs python{version}, which is not installed")
    answers = list(ask(place, line(touch(place)), python=str(usable[0])))

    assert answers[1:] == [{"ok": {"status": 0, "output": ""}}]
    assert (place / "touched").exists()


@pytest.mark.promise(3)
@pytest.mark.parametrize("cut", [1, 20, -1])
def test_an_incomplete_request_is_refused(place: Path, cut: int) -> None:
    """A text without the end of line is not a request, even if complete: the connection may have broken."""
    assert len(list(ask(place, line(touch(place))[:cut]))) == 1
    assert not (place / "touched").exists() and not (place / "markers").exists()


@pytest.mark.promise(3)
def test_a_late_request_is_refused(place: Path) -> None:
    """The time limit begins with the greeting, by the clock of the host."""
    wrapper = place / "remediator-remote"
    wrapper.write_text(wrapper.read_text().replace("REQUEST_SECONDS = 10.0", "REQUEST_SECONDS = 0.2"))
    argv = [sys.executable, "-IS", str(wrapper), str(place / "allow.json")]
    forced = {"SSH_ORIGINAL_COMMAND": "remediator-remote"}
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, env=forced, bufsize=0) as late:
        assert late.wait(60) == 2 and late.stdin is not None
        with pytest.raises(BrokenPipeError):
            late.stdin.write(line(touch(place)))
    assert not (place / "touched").exists()


@pytest.mark.promise(8)
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"argv": ["/usr/bin/touch", "/other"]}, "differs between the settings and the allow-list"),
        ({"values": {"name": "relative"}}, "does not allow the value 'relative'"),
        ({"values": {"name": "-r"}}, "does not allow the value '-r'"),
        ({"values": {}}, "needs exactly these values: name"),
        ({"read_only": True}, "differs between"),
        ({"attempt": "../x"}, "ID of the attempt is not valid"),
        ({"attempt": ""}, "ID of the attempt is not valid"),
        ({"number": "x"}, "invalid literal"),
        ({"values": 3}, "TypeError"),
        ({"verb": ["command"]}, "does not know the request"),
    ],
)
def test_a_call_outside_the_allow_list_is_refused(place: Path, changes: dict[str, Any], said: str) -> None:
    """The wrapper refuses a call that the allow-list lacks, and writes nothing."""
    _, answer = ask(place, line(touch(place, **changes)))

    assert said in answer["text"]
    assert not (place / "touched").exists() and not list((place / "markers").glob("*"))


def test_it_is_started_as_a_forced_command_only(place: Path) -> None:
    """Without a forced command the wrapper refuses to start, because the key could do anything."""
    (answer,) = ask(place, line(touch(place)), word="ls")
    assert "only as the forced command" in answer["text"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is not valid"),
        ("{}", "is not valid: KeyError('state')"),
        ('{"state": "/s", "unit": {}}', "has unknown keys: unit"),
        ('{"state": "/s", "units": {"a.service": ["stop"]}}', "wrong unit 'a.service': stop"),
        ('{"state": "/s", "units": {"-H.service": ["status"]}}', "wrong unit '-H.service'"),
    ],
)
def test_an_error_in_the_allow_list_is_named_with_its_place(place: Path, text: str, said: str) -> None:
    """The error names the problem and its place before the wrapper reads a request."""
    (place / "allow.json").write_text(text)
    (answer,) = ask(place, line(touch(place)))
    assert said in answer["text"] and str(place / "allow.json") in answer["text"]


@pytest.mark.promise(3)
def test_markers_are_bounded(place: Path) -> None:
    """Old markers are deleted. If too many new ones remain, the wrapper does nothing."""
    wrapper = place / "remediator-remote"
    few = wrapper.read_text().replace("KEPT_MARKERS = 1000", "KEPT_MARKERS = 3").replace("= 5000", "= 5")
    wrapper.write_text(few)
    for number in range(5):
        assert "ok" in list(ask(place, line(touch(place, attempt=f"a-{number}"))))[1]
    assert "has 5 markers of the last 30 days" in list(ask(place, line(touch(place, attempt="a-5"))))[1]["text"]

    for marker in (place / "markers").iterdir():
        subprocess.run(["touch", "-d", "40 days ago", marker], check=True)
    assert "ok" in list(ask(place, line(touch(place, attempt="a-5"))))[1]
    assert len(list((place / "markers").iterdir())) == 4, "the newest ones stay, however old they look"


@pytest.mark.promise(8)
@pytest.mark.parametrize("kind", ["link", "writable", "file"])
def test_a_state_folder_that_others_can_write_is_refused(place: Path, kind: str) -> None:
    """The wrapper does nothing if its state folder is a link or others can write to it."""
    markers, other = place / "markers", place / "other"
    other.mkdir()
    if kind == "link":
        markers.symlink_to(other)
    elif kind == "file":
        markers.write_text("")
    else:
        markers.mkdir()
        markers.chmod(0o777)
    _, answer = ask(place, line(touch(place)))
    assert answer["error"] == "Refused" and "state folder" in answer["text"]
    assert not (place / "touched").exists() and list(other.iterdir()) == []
