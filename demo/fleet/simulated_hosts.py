"""Hosts that exist only as folders, each with an address of its own on the loopback interface, behind a real sshd.

    with SimulatedHosts(folder, ["web-001", "web-002"], units=["web.service"]) as hosts:
        hosts.fail("web-001", "web.service")
        inventory = {"defaults": {"ssh": hosts.ssh}, "services": {"web-001": {"host": hosts.host("web-001"), ...}}}

OpenSSH listens on at most 16 addresses, so there is one sshd for each 16 hosts. A host has its own ``authorized_keys``
with remediator-remote as the forced command, its allow-list, its markers, and stand-ins for systemctl and journalctl.
"""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from demo import proc
from remediator.clients.ssh.bundle import wrapper_text

_HERE = Path(__file__).parent
_AT_ONCE = 16
"""The number of addresses that one sshd listens on (MAX_LISTEN_SOCKS)."""
_RUNNING = (
    "LoadState=loaded\nActiveState={active}\nSubState={sub}\nResult={result}\nMainPID={pid}\n"
    "InvocationID={number:032d}\nNRestarts=0\nExecMainStatus=0\nActiveEnterTimestampMonotonic={started}\n"
)


def keygen(*arguments: str | Path) -> None:
    """Run ssh-keygen.

    Raises:
        subprocess.CalledProcessError: ssh-keygen failed.
    """
    subprocess.run(["ssh-keygen", "-q", *map(str, arguments)], check=True, stdin=subprocess.DEVNULL)


class SimulatedHosts:
    """Simulated hosts behind sshd.

    Args:
        folder: for keys, hosts and logs.
        names: the names of the hosts.
        units: the units of each host, which run at first.
        python: interpreter of the wrapper.
        addresses: the addresses of the hosts. Default: 127.77.0.1 and the following ones.
        prefix: the command that starts sshd, such as ``ip netns exec NAME``.
        lines: additional lines of the configuration of sshd.
    """

    def __init__(
        self,
        folder: Path,
        names: Sequence[str],
        units: Sequence[str] = (),
        *,
        python: str = sys.executable,
        addresses: Sequence[str] = (),
        prefix: Sequence[str] = (),
        lines: Sequence[str] = (),
    ) -> None:
        self.folder, self.names, self.units = folder, tuple(names), tuple(units)
        self._python, self._prefix, self._lines = python, tuple(prefix), tuple(lines)
        made = [f"127.77.{number // 250}.{number % 250 + 1}" for number in range(len(names))]
        self._addresses = dict(zip(self.names, addresses or made, strict=True))
        self.port = _free_port()
        self.key, self.host_key = folder / "id_ed25519", folder / "host_key"
        self.known_hosts = folder / "known_hosts"
        self._running: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Make missing keys and hosts, start sshd, and wait until it listens."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for key in (self.key, self.host_key):
            if not key.exists():
                keygen("-t", "ed25519", "-N", "", "-f", key)
        self.wrapper.write_text(wrapper_text())
        public = " ".join(self.host_key.with_suffix(".pub").read_text().split()[:2])
        self.known_hosts.write_text(
            "".join(f"[{address}]:{self.port} {public}\n" for address in self._addresses.values())
        )
        for name in self.names:
            self._make(name)
        Path("/run/sshd").mkdir(exist_ok=True)  # the start script of the package makes this folder
        for first in range(0, len(self.names), _AT_ONCE):
            self._launch(first // _AT_ONCE, self.names[first : first + _AT_ONCE])

    def stop(self) -> None:
        """Stop sshd, its connections, and the shared connections of clients."""
        for process in self._running:
            for child in proc.descendants(process.pid):
                _end(child)
            process.kill()
            process.wait()
        self._running.clear()

    @property
    def wrapper(self) -> Path:
        """Return the file of remediator-remote, which all hosts share."""
        return self.folder / "remediator-remote"

    @property
    def ssh(self) -> dict[str, Any]:
        """Return the section ``defaults.ssh`` of an inventory."""
        return {
            "user": getpass.getuser(),
            "port": self.port,
            "identity_file": str(self.key),
            "known_hosts": str(self.known_hosts),
        }

    def host(self, name: str) -> dict[str, Any]:
        """Return the ``host`` of a service on this host."""
        return {"address": self._addresses[name]}

    def place(self, name: str) -> Path:
        """Return the folder of a host."""
        return self.folder / "hosts" / name

    def allow(self, name: str, **changes: Any) -> None:
        """Write the allow-list of a host with all its units and these other entries."""
        place = self.place(name)
        allowed = {
            "state": str(place / "markers"),
            "units": {unit: ["status", "logs", "restart"] for unit in self.units},
            "systemctl": [str(_HERE / "systemctl.sh"), str(place)],
            "journalctl": [str(_HERE / "journalctl.sh"), str(place)],
        }
        (place / "allow-list.json").write_text(json.dumps({**allowed, **changes}, indent=1))

    def authorize(self, name: str, options: str | None = None, key: str | None = None) -> None:
        """Write the authorized keys of a host, by default our key with the wrapper as the forced command."""
        command = f"{self._python} -IS {self.wrapper} {self.place(name) / 'allow-list.json'}"
        options = f'restrict,command="{command}"' if options is None else options
        key = self.key.with_suffix(".pub").read_text() if key is None else key
        (self.place(name) / "authorized_keys").write_text(f"{options} {key}\n".lstrip())

    def fail(self, name: str, unit: str, **state: str) -> None:
        """Make a unit fail as after a crash, or with another ``active``, ``sub`` or ``result``."""
        failed: dict[str, Any] = {"active": "failed", "sub": "failed", "result": "exit-code", "pid": 0}
        self._write(name, unit, **{**failed, **state})

    def seen(self, path: Path) -> Path:
        """Return a path as the first sshd sees it, which may have a separate view of file systems."""
        return Path(f"/proc/{self._running[0].pid}/root{path}")

    def calls(self, name: str) -> list[str]:
        """Return the restarts on a host: ``begun UNIT`` and ``done UNIT``."""
        log = self.place(name) / "calls"
        return log.read_text().splitlines() if log.exists() else []

    def markers(self, name: str) -> list[str]:
        """Return the names of the markers of a host."""
        return sorted(each.name for each in (self.place(name) / "markers").glob("*"))

    def _make(self, name: str) -> None:
        place = self.place(name)
        place.mkdir(parents=True, exist_ok=True)
        if not (place / "allow-list.json").exists():
            self.allow(name)
        if not (place / "authorized_keys").exists():
            self.authorize(name)
        for unit in self.units:
            if not (place / unit).exists():
                self._write(name, unit)

    def _write(self, name: str, unit: str, **properties: Any) -> None:
        state: Mapping[str, Any] = {
            "active": "active",
            "sub": "running",
            "result": "success",
            "pid": 900,
            "number": 1,
            "started": int(time.monotonic() * 1e6),
            **properties,
        }
        draft = self.place(name) / f"{unit}.draft"
        draft.write_text(_RUNNING.format(**state))
        draft.rename(self.place(name) / unit)

    def _launch(self, number: int, names: Sequence[str]) -> None:
        lines = [
            f"Port {self.port}",
            *(f"ListenAddress {self._addresses[name]}" for name in names),
            f"HostKey {self.host_key}",
            "PidFile none",
            "StrictModes no",
            "UsePAM no",
            "PasswordAuthentication no",
            "KbdInteractiveAuthentication no",
            "PermitRootLogin yes",
            "MaxStartups 200",
            "LogLevel VERBOSE",
            *self._lines,
        ]
        for name in names:
            lines += [
                f"Match LocalAddress {self._addresses[name]}",
                f"AuthorizedKeysFile {self.place(name) / 'authorized_keys'}",
            ]
        configuration, log = self.folder / f"sshd_{number}.conf", self.folder / f"sshd_{number}.log"
        configuration.write_text("\n".join(lines) + "\n")
        program = shutil.which("sshd", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
        if program is None:
            raise FileNotFoundError("sshd is not installed; install openssh-server")
        process = subprocess.Popen(
            [*self._prefix, program, "-D", "-f", str(configuration), "-E", str(log)],
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._running.append(process)
        deadline = time.monotonic() + 30
        while log.exists() is False or log.read_text().count("Server listening") < len(names):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"sshd did not start: {log.read_text() if log.exists() else 'no log'}")
            time.sleep(0.02)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _end(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
