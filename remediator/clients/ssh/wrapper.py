"""remediator-remote: the program on a host that a remediator may start by SSH, as a forced command.

    restrict,command="/usr/bin/python3 -IS /usr/local/bin/remediator-remote /etc/remediator-remote.json" ssh-ed25519 ...

The allow-list file on this host says what may be asked: units, commands and folders. A request names entries of the
list; it cannot give a program, an option or a path of its own. One connection makes one request:

1. The wrapper checks the allow-list and prints a greeting. A remediator sends nothing before it has read that, so a
   connection that ends earlier has changed nothing.
2. It reads one line of JSON from the standard input, within ten seconds by its own clock. A request that arrives later,
   or of which a part is missing, is ignored.
3. Before a change, it writes a marker with the ID of the request: the file and the folder are fsynced. If that fails,
   nothing is changed. No ID is accepted twice.
4. It acts, adds the outcome to the marker, and prints one line of JSON. It ends its work if the connection breaks.

After a broken connection, a remediator asks for the outcome of an attempt (``settle``). If no marker exists, the
attempt is closed. After that, no request of it is accepted, not even one that is still on its way.

This file is generated for Python 3.6 or newer from the package ``remediator``. Do not change it: the remediator
compares it with its own version.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import re
import select
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from remediator.clients.host.disk import File, Pin, Usage, component
from remediator.clients.host.folders import FolderOperations, Folders
from remediator.clients.host.quarantine import Moved
from remediator.clients.host.unit_commands import log_arguments, restart_arguments, show_arguments
from remediator.clients.redis.files import rdb_checker, rdb_finding
from remediator.errors import BadAnswer, Refused, RemediatorError, TimedOut, Unreachable

PROTOCOL = 1
WORD = "remediator-remote"
"""The only command that a client may ask sshd for."""
MAX_REQUEST = 4 * 1024 * 1024
"""Longest request, in bytes."""
MAX_OUTPUT = 64 * 1024
"""Bytes of the end of an output that are returned."""
REQUEST_SECONDS = 10.0
"""Seconds within which the request must arrive after the greeting."""
MARKER_BYTES = 4096
"""Size of a marker.

The space for the outcome is written with the intent, so a disk that fills up later does not lose the outcome.
"""
KEPT_SECONDS = 30 * 24 * 3600.0
"""Minimum retention of a marker, in seconds."""
KEPT_MARKERS = 1000
"""Minimum number of markers that are kept, regardless of the clock."""
MOST_MARKERS = 5000
"""At this number of markers, no change is accepted."""
ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
UNIT_VERBS = ("status", "logs", "restart")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,79}")
_UNIT = re.compile(r"[A-Za-z0-9:_.@-]+\.(service|socket|target)")
_PLACEHOLDER = re.compile(r"\{([a-z][a-z0-9_]*)\}")


class AllowList:
    """The permissions in the allow-list file on this host."""

    def __init__(self, path: str) -> None:
        """Read and check the file.

        Raises:
            Refused: it cannot be read, is not valid, or another user can change it.
        """
        self.text = _own_text(path)
        try:
            content = json.loads(self.text)
            self.state = str(content.pop("state"))
            self.units = {str(name): [str(verb) for verb in verbs] for name, verbs in content.pop("units", {}).items()}
            self.commands = {str(name): dict(each) for name, each in content.pop("commands", {}).items()}
            self.folders = [dict(each) for each in content.pop("folders", [])]
            self.systemctl = [str(each) for each in content.pop("systemctl", ["/usr/bin/systemctl"])]
            self.sudo = [str(each) for each in content.pop("sudo", [])]
            self.journalctl = [str(each) for each in content.pop("journalctl", ["/usr/bin/journalctl"])]
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise Refused(f"the allow-list {path} is not valid: {error!r}; write it again") from None
        if content:
            raise Refused(
                "the allow-list {} has unknown keys: {}; remove them".format(path, ", ".join(sorted(content)))
            )
        for name, verbs in self.units.items():
            wrong = [verb for verb in verbs if verb not in UNIT_VERBS]
            if wrong or not _UNIT.fullmatch(name) or name.startswith("-"):
                raise Refused(
                    "the allow-list {} has the wrong unit {!r}: {}; allowed are names such as nginx.service with the "
                    "verbs {}".format(path, name, ", ".join(wrong) or "its name", ", ".join(UNIT_VERBS))
                )

    def unit(self, request: Mapping[str, Any], verb: str) -> str:
        """Return the unit of a request.

        Raises:
            Refused: this verb is not allowed for it.
        """
        unit = str(request.get("unit", ""))
        if verb not in self.units.get(unit, ()):
            raise Refused(f"the allow-list of the host does not allow '{verb}' of the unit {unit!r}; add it there")
        return unit


def _own_text(path: str) -> str:
    """Return the text of a file that only root and this user can have written."""
    try:
        with open(path, encoding="utf-8") as file:
            seen = os.fstat(file.fileno())
            if seen.st_uid not in (0, os.geteuid()) or seen.st_mode & 0o022 or not stat.S_ISREG(seen.st_mode):
                raise Refused(f"other users can change the allow-list {path}; run chown root and chmod go-w on it")
            return file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(f"cannot read the allow-list {path}: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)


class Markers:
    """The markers of changes in the state folder: ``ATTEMPT.NUMBER`` for a call, ``ATTEMPT.closed`` for an attempt
    that may begin nothing any more. All methods hold a lock on the folder."""

    def __init__(self, folder: str) -> None:
        """Open the folder, and create it if it is missing.

        Raises:
            Refused: it cannot be used, or other users can write into it.
        """
        try:
            if not os.path.isdir(folder):
                os.mkdir(folder, 0o700)
            self.handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError as error:
            raise Refused(f"cannot use the state folder {folder}: {_reason(error)}; nothing was done") from None
        seen = os.fstat(self.handle)
        if seen.st_uid != os.geteuid() or seen.st_mode & 0o022:
            raise Refused(f"other users can write the state folder {folder}; run chown and chmod 700 on it")
        self.folder = folder
        fcntl.flock(self.handle, fcntl.LOCK_EX)

    def begin(self, attempt: str, number: int, request: Mapping[str, Any]) -> int:
        """Write the marker of a call and return its handle, which is locked as long as the call runs.

        Raises:
            Refused: the attempt is closed, the call was begun before, or the marker cannot be written.
        """
        names = self._expire()
        if attempt + ".closed" in names:
            raise Refused(f"the attempt {attempt} was closed before this request arrived; nothing was done")
        name = f"{attempt}.{number}"
        if name in names:
            raise Refused(f"call {number} of the attempt {attempt} was begun before; it is not done again")
        handle = self._write(name, {"verb": request.get("verb"), "unit": request.get("unit")})
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return handle

    def settle(self, attempt: str) -> list[dict[str, Any]]:
        """Close an attempt and return its calls, each with its state: ``finished``, ``running`` or ``unknown``.

        Raises:
            Refused: the attempt cannot be closed.
        """
        names = self._expire()
        if attempt + ".closed" not in names:
            os.close(self._write(attempt + ".closed", {}))
        numbers = sorted(
            int(name[len(attempt) + 1 :]) for name in names if re.match(re.escape(attempt) + r"\.\d+$", name)
        )
        return [{"number": number, **self._state(f"{attempt}.{number}")} for number in numbers]

    def _state(self, name: str) -> dict[str, Any]:
        handle = os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=self.handle)
        try:
            text = os.read(handle, MARKER_BYTES)[MARKER_BYTES // 2 :]
            try:
                return {"state": "finished", "outcome": json.loads(text.decode())}
            except ValueError:  # the marker has no outcome, or an incomplete outcome
                fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
                return {"state": "unknown"}
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EACCES):
                return {"state": "running"}
            raise
        finally:
            os.close(handle)

    def _write(self, name: str, content: Mapping[str, Any]) -> int:
        """Write and fsync a marker and its folder, and return the open file.

        Raises:
            Refused: that is not possible. Nothing of it is left.
        """
        text = json.dumps(dict(content, at=time.time())).encode()[: MARKER_BYTES // 2]
        try:
            handle = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600, dir_fd=self.handle)
            try:
                _write_all(handle, text.ljust(MARKER_BYTES))
                os.fsync(handle)
                os.fsync(self.handle)
            except OSError:
                os.unlink(name, dir_fd=self.handle)
                os.close(handle)
                raise
        except OSError as error:
            raise Refused(f"cannot write a marker in {self.folder}: {_reason(error)}; nothing was done") from None
        return handle

    def _expire(self) -> list[str]:
        """Delete the oldest markers that are old enough, and return the names of the remaining markers.

        Raises:
            Refused: there are too many.
        """
        names = os.listdir(self.handle)
        if len(names) <= KEPT_MARKERS:
            return names
        ages = sorted((os.stat(name, dir_fd=self.handle, follow_symlinks=False).st_mtime, name) for name in names)
        before = time.time() - KEPT_SECONDS
        for written, name in ages[:-KEPT_MARKERS]:
            if written < before:
                os.unlink(name, dir_fd=self.handle)
                names.remove(name)
        if len(names) >= MOST_MARKERS:
            raise Refused(f"{self.folder} has {len(names)} markers of the last 30 days; nothing was done")
        return names

    def close(self) -> None:
        """Release the lock."""
        os.close(self.handle)


def finish(marker: int, outcome: Mapping[str, Any]) -> None:
    """Add the outcome to a marker: into the room that its intent has kept free."""
    text = json.dumps(outcome).encode()
    if len(text) > MARKER_BYTES // 2:
        text = json.dumps(dict(outcome, text=str(outcome.get("text", ""))[-500:], ok={})).encode()
    os.lseek(marker, MARKER_BYTES // 2, os.SEEK_SET)
    _write_all(marker, text)
    os.fsync(marker)


def _write_all(handle: int, content: bytes) -> None:
    while content:
        content = content[os.write(handle, content) :]


class Task:
    """One checked request: the work, and whether it changes something."""

    def __init__(self, work: Callable[[tuple[int, ...]], Any], changes: bool = False) -> None:
        """Keep both. ``work`` gets the handles that a program inherits, so that its marker stays locked."""
        self.work, self.changes = work, changes


def run_program(
    argv: list[str], seconds: float, inherited: tuple[int, ...] = (), environment: Mapping[str, str] = ENVIRONMENT
) -> dict[str, Any]:
    """Run a program without a shell and return its status and its output.

    Raises:
        Unreachable: it cannot be started.
        TimedOut: it did not end in time; it and its children were killed.
    """
    try:
        child = subprocess.Popen(  # noqa: S603
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=dict(environment),
            cwd="/",
            start_new_session=True,
            pass_fds=inherited,
        )
    except (OSError, ValueError) as error:
        raise Unreachable(f"cannot start {argv[0]} on the host: {_reason(error)}") from None
    assert child.stdout is not None, "it was started with a pipe"
    output, deadline, ended = b"", time.monotonic() + seconds, False
    try:
        while not ended:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([child.stdout], [], [], left)[0]:
                raise TimedOut(f"{argv[0]} did not end within {seconds:g} s")
            piece = os.read(child.stdout.fileno(), MAX_OUTPUT)
            output, ended = (output + piece)[-MAX_OUTPUT:], not piece
        try:
            status = child.wait(max(deadline - time.monotonic(), 0.1))
        except subprocess.TimeoutExpired:
            raise TimedOut(f"{argv[0]} did not end within {seconds:g} s") from None
    finally:
        if child.poll() is None or not ended:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
    return {"status": status, "output": output.decode("utf-8", "replace")}


def _seconds(request: Mapping[str, Any]) -> float:
    return min(max(float(request.get("seconds", 10.0)), 0.1), 3600.0)


def unit_status(allowed: AllowList, request: Mapping[str, Any]) -> Task:
    """Print the state of a unit, with the monotonic clock of this host to which its start refers."""
    argv = allowed.systemctl + list(show_arguments(allowed.unit(request, "status")))

    def work(inherited: tuple[int, ...]) -> dict[str, Any]:
        now = time.monotonic()
        return dict(run_program(argv, _seconds(request), inherited), monotonic=now)

    return Task(work)


def unit_logs(allowed: AllowList, request: Mapping[str, Any]) -> Task:
    """Print the last lines of a unit, with the clock of this host to which their times refer."""
    lines = min(max(int(request.get("lines", 100)), 1), 2000)
    argv = allowed.journalctl + list(log_arguments(allowed.unit(request, "logs"), lines))
    return Task(lambda inherited: dict(run_program(argv, _seconds(request), inherited), clock=time.time()))


def unit_restart(allowed: AllowList, request: Mapping[str, Any]) -> Task:
    """Restart a unit."""
    argv = allowed.sudo + allowed.systemctl + list(restart_arguments(allowed.unit(request, "restart")))
    return Task(lambda inherited: run_program(argv, _seconds(request), inherited), changes=True)


def run_command(allowed: AllowList, request: Mapping[str, Any]) -> Task:
    """Run a command of the allow-list. The request repeats its arguments, which must be the same."""
    name, values = str(request.get("command", "")), dict(request.get("values", {}))
    entry = allowed.commands.get(name)
    if entry is None:
        raise Refused(f"the allow-list of the host does not allow the command {name!r}; add it there")
    patterns, argv = dict(entry.get("parameters", {})), []
    if set(values) != set(patterns):
        raise Refused(
            "the command {!r} needs exactly these values: {}".format(name, ", ".join(sorted(patterns)) or "none")
        )
    for key, value in values.items():
        if not isinstance(value, str) or value.startswith("-") or not re.fullmatch(patterns[key], value):
            raise Refused(f"the allow-list of the host does not allow the value {value!r} of {key}")
    for each in entry["argv"]:
        placeholder = _PLACEHOLDER.fullmatch(each)
        argv.append(values[placeholder.group(1)] if placeholder else each)
    if argv != request.get("argv") or bool(entry.get("read_only")) != bool(request.get("read_only")):
        raise Refused(
            f"the command {name!r} differs between the settings and the allow-list of the host; make both the same"
        )
    environment = dict(ENVIRONMENT, **entry.get("environment", {}))
    return Task(
        lambda inherited: run_program(argv, _seconds(request), inherited, environment),
        changes=not entry.get("read_only", False),
    )


class _Deadline:
    """Says whether there is time for one more file."""

    def __init__(self, seconds: float) -> None:
        self._ends = time.monotonic() + seconds

    def __call__(self) -> bool:
        return time.monotonic() < self._ends


def _backup_problem(here: FolderOperations, request: Mapping[str, Any]) -> str | None:
    path = str(here.backup(str(request["name"])))
    program = rdb_checker(path)
    ended = run_program([program, path], _seconds(request))
    return rdb_finding(path, program, int(ended["status"]), str(ended["output"]))


def _files(request: Mapping[str, Any]) -> tuple[File, ...]:
    return tuple(File(**each) for each in request["files"])


def _take(here: FolderOperations, request: Mapping[str, Any]) -> Any:
    pins = tuple(Pin(**each) for each in request["pins"])
    return here.take(pins, component(str(request["batch"])), str(request["now"]), _Deadline(_seconds(request)))


def _batch(request: Mapping[str, Any]) -> tuple[str, str, Callable[[], bool]]:
    return component(str(request["batch"])), str(request["sha256"]), _Deadline(_seconds(request))


FILE_OPERATIONS: dict[str, Callable[[FolderOperations, Mapping[str, Any]], Any]] = {
    "files-clock": lambda here, request: time.time(),
    "files-usage": lambda here, request: here.usage(),
    "files-space": lambda here, request: here.space(),
    "files-backups-usage": lambda here, request: here.backups_usage(),
    "files-backups": lambda here, request: here.backups(),
    "files-backup-problem": _backup_problem,
    "files-same-filesystem": lambda here, request: here.is_quarantine_on_same_filesystem(),
    "files-batches": lambda here, request: here.batches(),
    "files-pins": lambda here, request: here.pins(_files(request), _Deadline(_seconds(request))),
    "files-take": _take,
    "files-delete": lambda here, request: here.delete(*_batch(request)),
    "files-restore": lambda here, request: here.restore(*_batch(request)),
}
"""The operations on folders of the allow-list."""
_FILE_CHANGES = ("files-take", "files-delete", "files-restore")


def files(allowed: AllowList, request: Mapping[str, Any]) -> Task:
    """Read or change files in folders of the allow-list. The request repeats all four settings of an entry."""
    given, verb = dict(request["folders"]), str(request["verb"])
    if given not in allowed.folders:
        shown = ", ".join(f"{name} {value}" for name, value in sorted(given.items()) if value)
        raise Refused(f"the allow-list of the host has no entry with exactly these folders: {shown}; add it there")
    here, operation = FolderOperations(Folders(**given)), FILE_OPERATIONS[verb]
    return Task(lambda inherited: _plain(operation(here, request)), changes=verb in _FILE_CHANGES)


def _plain(found: Any) -> Any:
    """Return a result as JSON can hold it."""
    if isinstance(found, tuple):
        return [_plain(each) for each in found]
    return asdict(found) if isinstance(found, (File, Pin, Usage, Moved)) else found


def describe(allowed: AllowList, request: Mapping[str, Any]) -> Task:
    """Return the allowed calls of the allow-list, for ``remediator doctor``."""
    with open(__file__, "rb") as file:
        own = file.read()
    found = {
        "units": allowed.units,
        "commands": allowed.commands,
        "folders": allowed.folders,
        "python": ".".join(map(str, sys.version_info[:2])),
        "version": hashlib.sha256(own).hexdigest(),
    }
    return Task(lambda inherited: found)


VERBS: dict[str, Callable[[AllowList, Mapping[str, Any]], Task]] = {
    "describe": describe,
    "unit-status": unit_status,
    "unit-logs": unit_logs,
    "unit-restart": unit_restart,
    "command": run_command,
    **dict.fromkeys(FILE_OPERATIONS, files),
}
"""The verbs of requests, except ``settle``. Each function checks the request and returns the task."""


def answer(allowed: AllowList, request: Mapping[str, Any]) -> dict[str, Any]:
    """Execute a request and return the answer: ``ok`` with the result, or ``error`` with its kind and ``text``."""
    try:
        return {"ok": _done(allowed, request)}
    except RemediatorError as error:
        return {"error": type(error).__name__, "text": str(error)}
    except (OSError, ValueError, TypeError, KeyError) as error:
        return {"error": BadAnswer.__name__, "text": f"{type(error).__name__}: {_reason(error)}"}


def _done(allowed: AllowList, request: Mapping[str, Any]) -> Any:
    attempt, number = str(request.get("attempt", "")), int(request.get("number", 0))
    if request.get("verb") == "settle":
        markers = Markers(allowed.state)
        try:
            return markers.settle(_checked(attempt))
        finally:
            markers.close()
    check = VERBS.get(str(request.get("verb")))
    if check is None:
        raise Refused("{} does not know the request {!r}; install the same version".format(WORD, request.get("verb")))
    task = check(allowed, request)  # refuse requests that the allow-list does not allow, before writing anything
    if not task.changes:
        return task.work(())
    markers = Markers(allowed.state)
    try:
        marker = markers.begin(_checked(attempt), number, request)
    finally:
        markers.close()
    return _recorded(task, marker)


def _checked(attempt: str) -> str:
    if not _ID.fullmatch(attempt):
        raise Refused("the ID of the attempt is not valid; nothing was done")
    return attempt


def _recorded(task: Task, marker: int) -> Any:
    """Do a task whose marker is written, and add the outcome to the marker before the answer."""
    try:
        result = task.work((marker,))
    except RemediatorError as error:
        finish(marker, {"error": type(error).__name__, "text": str(error)})
        raise
    finish(marker, {"ok": result})
    return result


def read_request(handle: int) -> dict[str, Any] | None:
    """Read the request; None if it is not complete in time."""
    content, deadline = b"", time.monotonic() + REQUEST_SECONDS
    while not content.endswith(b"\n"):
        left = deadline - time.monotonic()
        if left <= 0 or len(content) > MAX_REQUEST or not select.select([handle], [], [], left)[0]:
            return None
        piece = os.read(handle, MAX_OUTPUT)
        if not piece:
            return None
        content += piece
    try:
        found = json.loads(content.decode())
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def say(content: Mapping[str, Any]) -> None:
    """Print one line. The connection may have ended; the marker has the outcome."""
    with contextlib.suppress(OSError):
        _write_all(1, json.dumps(content).encode() + b"\n")


def main() -> int:
    """Answer one request. Exit status: 0 answered; 1 the wrapper cannot be used; 2 there was no complete request."""
    for number in (signal.SIGHUP, signal.SIGPIPE):  # finish and record a begun change even without a connection
        signal.signal(number, signal.SIG_IGN)
    try:
        if len(sys.argv) != 2:
            raise Refused("the forced command of the key must name the allow-list, and nothing else")
        if os.environ.get("SSH_ORIGINAL_COMMAND") != WORD:
            raise Refused(f"{WORD} is started only as the forced command of an SSH key")
        allowed = AllowList(sys.argv[1])
    except RemediatorError as error:
        say({WORD: PROTOCOL, "error": Refused.__name__, "text": str(error)})
        return 1
    say({WORD: PROTOCOL})
    request = read_request(0)
    if request is None:
        return 2
    say(answer(allowed, request))
    return 0


if __name__ == "__main__":
    sys.exit(main())
