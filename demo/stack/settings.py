"""Folder and ports of the local stack. Environment variables can change each of them."""

from __future__ import annotations

import json
import re
import socket
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

_PLAIN = re.compile(r"[\w /.+@,=~-]+")
"""Paths that mean the same to supervisord, nginx, Redis and every exporter."""


class StackError(Exception):
    """The stack cannot run. The message is a sentence that says what to do."""


@dataclass(frozen=True)
class Ports:
    """The ports. Each is also a variable, such as ``REDIS_PORT=26379 make up``."""

    redis: int = 16379
    redis_exporter: int = 19121
    node_exporter: int = 19100
    app: int = 18000
    nginx: int = 18080
    prometheus: int = 19090
    alertmanager: int = 19093
    remediator: int = 18095

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Ports:
        """Return the default ports with the changes in the environment."""
        chosen = {}
        for field in fields(cls):
            text = environment.get(variable(field.name))
            if text is None:
                continue
            if not text.isdecimal() or not 1 <= int(text) <= 65535:
                raise StackError(f"{variable(field.name)}={text!r} is not a port; use a number from 1 to 65535")
            chosen[field.name] = int(text)
        made = cls(**chosen)
        owner: dict[int, str] = {}
        for name, port in asdict(made).items():
            if port in owner:
                raise StackError(f"{variable(owner[port])} and {variable(name)} are both {port}; change one")
            owner[port] = name
        return made

    def busy(self) -> list[str]:
        """Return the variables whose port another process uses."""
        return [f"{variable(name)}={port}" for name, port in asdict(self).items() if _taken(port)]


def variable(name: str) -> str:
    """Return the environment variable of a port."""
    return f"{name.upper()}_PORT"


def _taken(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


@dataclass(frozen=True)
class Settings:
    """The settings of one local stack."""

    state: Path
    ports: Ports

    @property
    def supervisord_conf(self) -> Path:
        """Return the path of supervisord's configuration. The stack exists if this file exists."""
        return self.state / "supervisord.conf"

    @property
    def supervisor_socket(self) -> Path:
        """Return the socket of supervisord, which only this user can open."""
        return self.state / "supervisor.sock"

    @property
    def supervisor_url(self) -> str:
        """Return the URL of this socket for clients of supervisord."""
        return f"unix://{self.supervisor_socket}"

    @property
    def remediator_yaml(self) -> Path:
        """Return the path of the remediator's settings file."""
        return self.state / "remediator" / "remediator.yaml"

    @property
    def database(self) -> Path:
        """Return the path of the remediator's database, which contains the audit log."""
        return self.remediator_yaml.with_name("remediator.db")

    @property
    def ports_file(self) -> Path:
        """Return the file with the ports of this stack. It also marks the folder as ours."""
        return self.state / "ports.json"

    def secret(self, name: str) -> str:
        """Return one of the generated secrets."""
        return (self.state / name).read_text(encoding="utf-8")


def from_environment(environment: Mapping[str, str]) -> Settings:
    """Return the settings from ``STATE`` and the ports. A running stack keeps the ports of its start.

    Raises:
        StackError: a variable is wrong, or contradicts the stack that runs.
    """
    state = Path(environment.get("STATE") or ROOT / "state").resolve()
    for path, what in ((state, "STATE"), (ROOT, "the folder of this repository"), (Path(sys.executable), "Python")):
        if not _PLAIN.fullmatch(str(path)):
            raise StackError(f"{what} is {str(path)!r}: use a path of letters, digits, spaces and /.+@,=~_- only")
    asked = Settings(state, Ports.from_environment(environment))
    # the kernel allows 107 bytes for a socket; supervisord first binds this name with "." and its process ID appended
    if len(bytes(asked.supervisor_socket)) > 100:
        raise StackError(f"STATE={state} is too long for a socket beneath it; choose a shorter folder")
    if not listens(asked.supervisor_socket) or not asked.ports_file.exists():
        return asked
    return _as_it_runs(asked, environment)


def _as_it_runs(asked: Settings, environment: Mapping[str, str]) -> Settings:
    runs = Ports(**json.loads(asked.ports_file.read_text()))
    for name, port in asdict(runs).items():
        if variable(name) in environment and getattr(asked.ports, name) != port:
            raise StackError(
                f"The stack in {asked.state} runs with {variable(name)}={port}: stop it first with 'make down'."
            )
    return Settings(asked.state, runs)


def listens(path: Path) -> bool:
    """Return whether a process accepts connections at this socket."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True
